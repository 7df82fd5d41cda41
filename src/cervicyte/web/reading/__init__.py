"""Reading cells: the worklist, verdicts, disagreements, heat maps and measurements."""
