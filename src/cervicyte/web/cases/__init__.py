"""Cases and their pictures: who may see them, uploads, answers, second readers, deletion."""
