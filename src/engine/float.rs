//! tract as the engine of float models.
