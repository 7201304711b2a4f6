"""The inner update: estimators of its loss, and which weights it changes."""
