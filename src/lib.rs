//! eyas: object detection for the Raspberry Pi on integer kernels.
//!
//! ```text
//! a frame:  FrameSource -> newest-frame slot -> masks -> preprocess -> Engine -> decode -> zones, tracks -> Sinks
//! a model:  bytes -> model::load -> Graph -> passes -> Plan::compile -> Plan::run
//! ```
//!
//! | module | holds | may use |
//! |---|---|---|
//! | [`polygon`] | places in a picture | nothing |
//! | [`error`], [`tensor`] | the error type; shapes, element types, quantization parameters | nothing |
//! | [`kernels`] | integer arithmetic, one table of functions per instruction set | tensor, error |
//! | [`graph`] | the operators of a model, shape rules, passes that rewrite a graph | tensor, error |
//! | [`model`] | a file becomes a [`graph::Graph`]; labels; built-in and public models by name | graph and below |
//! | [`plan`] | a graph and kernels become a [`plan::Plan`] that cannot fail or allocate | graph, kernels and below |
//! | [`engine`] | [`engine::Engine`]: the integer plan, or tract for float models | plan, model and below |
//! | [`detect`] | a picture becomes a list of [`detect::Detection`] | engine and below |
//! | [`quantize`] | a float model becomes a quantized file, with a report of what it cost | detect and below |
//! | [`dataset`] | labelled pictures: COCO, YOLO and VOC, read and written | source's pictures, error |
//! | [`eval`] | mAP as COCO and Pascal VOC compute it, accuracy of classifiers | dataset, detect and below |
//! | [`source`] | [`source::FrameSource`]: pictures, streams, ffmpeg, cameras, the demo scene; masks | polygon, error |
//! | [`track`] | objects followed from frame to frame, zones | detect's types, source's frame, telemetry, polygon |
//! | [`sink`] | [`sink::Sink`]: drawing, live page, window, events, snapshots, pins, MQTT | detect's and track's types, source's frame, telemetry, polygon |
//! | [`telemetry`] | rates, latency histograms, readings of the machine | error |
//! | [`pipeline`] | threads, the newest-frame slot, the governor against heat, shutdown | detect, track, source, sink, telemetry, polygon |
//! | [`cli`] | one file a command | everything |
//!
//! # Example
//!
//! ```
//! use eyas::detect::{Detector, Threshold};
//! use eyas::model::labels::Labels;
//!
//! let model = eyas::model::load_file("tests/demo/colours.tflite".as_ref())?;
//! let labels = Labels::parse("red\ngreen\nblue\n", "colours")?;
//! let engine = eyas::engine::load(&model, eyas::engine::Options::default())?;
//! let mut detector = Detector::new(engine, &model, labels, Threshold::new(0.5))?;
//! let picture = eyas::source::read_picture("tests/demo/scene/00.jpg".as_ref())?;
//! let found = detector.detect(&picture)?.detections;
//! assert_eq!(found.len(), 3);
//! # Ok::<(), eyas::Error>(())
//! ```
#![deny(
    unsafe_code,
    unsafe_op_in_unsafe_fn,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc
)]

pub mod cli;
pub mod dataset;
pub mod detect;
pub mod engine;
pub mod error;
pub mod eval;
pub mod graph;
pub mod kernels;
pub mod model;
pub mod pipeline;
pub mod plan;
pub mod polygon;
pub mod quantize;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod tensor;
pub mod track;

pub use error::{Error, Result};
