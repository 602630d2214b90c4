"""Why a daemon is left alone, and the way of another back."""
