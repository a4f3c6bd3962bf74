//! Rates, latency histograms and readings of the machine.
