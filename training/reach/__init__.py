"""The trial of far attention: which windows and head types are worth their time."""
