"""The torch and Lightning backend."""
