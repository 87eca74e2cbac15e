"""A student that imitates a teacher: what it reads and what it is compared with."""
