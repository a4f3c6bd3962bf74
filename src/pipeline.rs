//! Threads between sources, detection and sinks.
