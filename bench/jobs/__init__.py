"""The jobs that people come with, from the command to the file: new names, molecules, rows of a table."""
