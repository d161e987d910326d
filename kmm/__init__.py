"""kmm: a typed model of khugepaged's anonymous collapse path, and a judge for its refactorings."""
