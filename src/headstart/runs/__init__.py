"""What a training gives, and what it leaves in its folder."""
