//! What pins do.

use serde::Serialize;

/// The pins that were asked for, at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GpioSnapshot {
    /// Why none is driven.
    pub error: Option<String>,
    pub outputs: Vec<GpioOutput>,
}

/// A pin and a label that switches it on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GpioOutput {
    /// BCM number.
    pub pin: u8,
    pub label: String,
    /// Whether the label keeps the pin on.
    pub active: bool,
}
