"""What an int8 file must hold, and the verdict on whether it does."""
