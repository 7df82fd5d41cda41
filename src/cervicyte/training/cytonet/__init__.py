"""The teaching of our own network: views, teacher, student, distillation."""
