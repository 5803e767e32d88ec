"""Settings in, a trained net out; the only room that knows skorch."""
