//! `--source auto`: a ribbon camera, else a V4L2 camera, else the demo scene.

use super::camera::{self, CameraSource, Node, Verdict};
use super::csi::{self, CsiSource, RibbonCamera};
use super::demo::DemoSource;
use super::{FrameSource, SourceOptions};
use crate::error::Result;

/// What is chosen.
#[derive(Debug, PartialEq)]
enum Choice {
    /// The words of `--source`.
    Ribbon(String),
    /// The path of a node.
    Camera(String),
    Demo,
}

/// Opens what there is, and says in one line why.
pub(super) fn open(options: SourceOptions) -> Result<Box<dyn FrameSource>> {
    let (choice, why) = choose(csi::ribbon_cameras(), &camera::nodes());
    log::info!("{why}");
    Ok(match choice {
        Choice::Ribbon(spec) => Box::new(CsiSource::new(&spec, options)?),
        Choice::Camera(path) => {
            Box::new(CameraSource::new(&format!("v4l2:{path}"), &path, options)?)
        }
        Choice::Demo => Box::new(DemoSource::new(options)?),
    })
}

/// The choice and the reason for it.
fn choose(
    ribbon: std::result::Result<Vec<RibbonCamera>, String>,
    nodes: &[Node],
) -> (Choice, String) {
    let no_ribbon = match ribbon.as_deref() {
        Ok([first, ..]) => {
            let spec = format!("csi:{}", first.number);
            let why = format!("found the ribbon camera {} ({spec})", first.name);
            return (Choice::Ribbon(spec), why);
        }
        Ok([]) => "no ribbon camera",
        Err(reason) => reason,
    };
    let mut cameras: Vec<_> = nodes.iter().filter(|node| node.is_camera()).collect();
    // Free ones first, otherwise in their order.
    cameras.sort_by_key(|node| !node.users.is_empty());
    if let [first, ..] = cameras[..] {
        let path = first.path.display().to_string();
        let name = first.capability.as_ref().map_or("", |found| &found.card);
        let why = format!("found the camera {name} (v4l2:{path}; {no_ribbon})");
        return (Choice::Camera(path), why);
    }
    let refused = nodes.iter().find_map(|node| match &node.verdict {
        Verdict::Skipped(reason) if node.capability.is_none() => Some(reason.as_str()),
        _ => None,
    });
    let no_node = refused.unwrap_or("no V4L2 camera");
    let why = format!(
        "showing the demo scene, since no camera was found ({no_ribbon}; {no_node}); `eyas doctor` tells more, and \
         --source takes a camera, a file, a folder or a URL"
    );
    (Choice::Demo, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::camera::Capability;

    fn node(number: u32, verdict: Verdict, users: &[&str]) -> Node {
        Node {
            path: format!("/dev/video{number}").into(),
            capability: Some(Capability {
                card: "HD Webcam".into(),
                ..Default::default()
            }),
            verdict,
            users: users.iter().map(ToString::to_string).collect(),
        }
    }

    fn camera(number: u32, users: &[&str]) -> Node {
        node(number, Verdict::Camera(Vec::new()), users)
    }

    fn codec(number: u32) -> Node {
        node(number, Verdict::Skipped("a codec".into()), &[])
    }

    fn absent() -> std::result::Result<Vec<RibbonCamera>, String> {
        Err("rpicam-vid is not installed".into())
    }

    #[test]
    fn a_ribbon_camera_comes_first() {
        let ribbon = vec![RibbonCamera {
            number: 1,
            name: "imx708".into(),
        }];
        let (choice, why) = choose(Ok(ribbon), &[camera(0, &[])]);
        assert_eq!(choice, Choice::Ribbon("csi:1".into()));
        assert!(why.contains("imx708"), "{why}");
    }

    #[test]
    fn then_the_first_free_camera_of_v4l2() {
        let nodes = [codec(10), camera(2, &["zoom (process 7)"]), camera(4, &[])];
        let (choice, why) = choose(absent(), &nodes);
        assert_eq!(choice, Choice::Camera("/dev/video4".into()));
        assert!(
            why.contains("HD Webcam") && why.contains("not installed"),
            "{why}"
        );
        let (choice, _) = choose(Ok(Vec::new()), &nodes[..2]);
        assert_eq!(choice, Choice::Camera("/dev/video2".into()));
    }

    #[test]
    fn then_the_demo_scene_with_the_reasons() {
        let (choice, why) = choose(absent(), &[codec(10)]);
        assert_eq!(choice, Choice::Demo);
        assert!(
            why.contains("rpicam-vid is not installed; no V4L2 camera"),
            "{why}"
        );
        let mut forbidden = node(0, Verdict::Skipped("no permission for it".into()), &[]);
        forbidden.capability = None;
        let (choice, why) = choose(Ok(Vec::new()), &[forbidden]);
        assert_eq!(choice, Choice::Demo);
        assert!(
            why.contains("no ribbon camera; no permission for it"),
            "{why}"
        );
    }
}
