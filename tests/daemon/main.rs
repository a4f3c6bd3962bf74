//! `eyas run` as others meet it: over the network, as systemd, through signals.

mod access;
mod broker;
mod mqtt;
mod places;
mod program;
mod service;
