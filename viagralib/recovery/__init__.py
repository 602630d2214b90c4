"""Why a daemon is left alone, and how one is brought back."""
