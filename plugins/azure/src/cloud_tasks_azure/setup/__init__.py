"""What ``cloud-tasks setup azure`` makes in a subscription: a module for each kind of item."""
