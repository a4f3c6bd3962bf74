//! `eyas run` as others meet it: over the network, as systemd, through signals.

mod access;
mod children;
mod program;
mod service;
