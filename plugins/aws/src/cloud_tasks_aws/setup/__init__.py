"""``cloud-tasks setup aws``: what a first job needs in an account, a module for each kind of item."""
