//! `eyas run` as others meet it: over the network, as systemd, through signals, pins and a window.

mod access;
mod broker;
mod children;
mod gpio;
mod mqtt;
mod places;
mod program;
mod service;
mod window;
