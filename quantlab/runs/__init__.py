"""What runs leave: records, folders, their history."""
