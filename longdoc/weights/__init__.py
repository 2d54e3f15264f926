"""The weights that come with longdoc, one folder a backbone; docs/pretraining says how made."""
