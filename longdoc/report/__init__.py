"""Run folders to a page; no model is ever touched."""
