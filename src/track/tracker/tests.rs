use super::*;
use crate::detect::BoundingBox;

fn found(label: &str, [x, y]: [f64; 2], [width, height]: [f64; 2], confidence: f32) -> Detection {
    Detection {
        label: label.into(),
        class_id: label.len(),
        confidence,
        bounding_box: BoundingBox {
            x_min: (x - width / 2.0) as f32,
            y_min: (y - height / 2.0) as f32,
            x_max: (x + width / 2.0) as f32,
            y_max: (y + height / 2.0) as f32,
        },
        track_id: None,
    }
}

/// A person of 40 by 100 pixels.
fn person(at: [f64; 2], confidence: f32) -> Detection {
    found("person", at, [40.0, 100.0], confidence)
}

/// A tracker and the seconds that have gone by.
struct Play {
    tracker: Tracker,
    start: Instant,
    ended: Vec<u64>,
}

impl Play {
    fn new() -> Self {
        Self {
            tracker: Tracker::default(),
            start: Instant::now(),
            ended: Vec::new(),
        }
    }

    fn at(&self, second: f64) -> Instant {
        self.start + Duration::from_secs_f64(second)
    }

    /// The ids that the detections of a frame get.
    fn frame(
        &mut self,
        second: f64,
        strong: &[Detection],
        faint: &[Detection],
    ) -> Vec<Option<u64>> {
        let mut strong = strong.to_vec();
        let ended = self.tracker.update(&mut strong, faint, self.at(second));
        self.ended.extend(ended.iter().map(|track| track.id));
        strong.iter().map(|found| found.track_id).collect()
    }

    fn ids(&self) -> Vec<u64> {
        self.tracker.tracks().map(|track| track.id).collect()
    }
}

/// Times of frames, so many a second, for so many seconds.
fn times(rate: f64, seconds: f64) -> impl Iterator<Item = f64> {
    (0..(rate * seconds) as usize).map(move |frame| frame as f64 / rate)
}

/// A number from -1 to 1 that looks random.
fn noise(state: &mut u64) -> f64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    (*state >> 40) as f64 / f64::from(1 << 23) - 1.0
}

#[test]
fn a_walker_keeps_its_id_at_any_frame_rate() {
    // 2.8 widths a second: at 5 frames a second the boxes of two frames hardly meet.
    for rate in [4.0, 5.0, 10.0, 30.0] {
        let mut play = Play::new();
        let ids: Vec<_> = times(rate, 5.0)
            .map(|t| play.frame(t, &[person([50.0 + 112.0 * t, 200.0], 0.8)], &[])[0])
            .collect();
        assert_eq!(ids[0], None);
        assert!(ids[1..].iter().all(|&id| id == Some(1)), "{rate}: {ids:?}");
    }
}

#[test]
fn frames_may_come_when_they_like() {
    let (mut play, mut state, mut t) = (Play::new(), 5, 0.0);
    play.frame(t, &[person([50.0, 200.0], 0.8)], &[]);
    for _ in 0..200 {
        t += 0.03 + 0.27 * noise(&mut state).abs();
        let at = [
            50.0 + 60.0 * t + noise(&mut state),
            200.0 + noise(&mut state),
        ];
        assert_eq!(play.frame(t, &[person(at, 0.8)], &[]), [Some(1)], "{t}");
    }
}

/// Two walk towards each other and pass; while their boxes are one, the detector sees only the nearer.
#[test]
fn two_that_pass_each_other_keep_their_ids() {
    for rate in [5.0, 15.0, 30.0] {
        let (mut play, mut state) = (Play::new(), 3);
        let mut known = [None, None];
        for t in times(rate, 6.0) {
            let mut jitter = || 1.5 * noise(&mut state);
            let places = [
                [100.0 + 70.0 * t + jitter(), 200.0 + jitter()],
                [520.0 - 70.0 * t + jitter(), 215.0 + jitter()],
            ];
            let hidden = (places[0][0] - places[1][0]).abs() < 25.0;
            let seen: Vec<_> = (usize::from(hidden)..2)
                .map(|i| person(places[i], 0.8))
                .collect();
            let ids = play.frame(t, &seen, &[]);
            for (known, id) in known.iter_mut().rev().zip(ids.into_iter().rev()) {
                assert!(
                    known.is_none() || *known == id,
                    "{rate} {t}: {known:?} {id:?}"
                );
                *known = id;
            }
        }
        assert!(
            known[0].is_some() && known[0] != known[1],
            "{rate}: {known:?}"
        );
        assert!(play.ended.is_empty());
    }
}

#[test]
fn a_crowd_that_walks_in_all_directions_is_told_apart() {
    let (mut play, mut state) = (Play::new(), 11);
    let walkers: Vec<[f64; 4]> = (0..12)
        .map(|i| {
            let speed = [60.0 * noise(&mut state), 25.0 * noise(&mut state)];
            [
                150.0 * f64::from(i % 4),
                180.0 * f64::from(i / 4),
                speed[0],
                speed[1],
            ]
        })
        .collect();
    let mut known = vec![None; walkers.len()];
    for (frame, t) in times(15.0, 3.0).enumerate() {
        let mut seen = Vec::new();
        for (walker, [x, y, along, down]) in walkers.iter().enumerate() {
            // Everyone is missed in one frame of nine.
            if (frame + walker) % 9 != 8 {
                let at = [
                    x + along * t + noise(&mut state),
                    y + down * t + noise(&mut state),
                ];
                seen.push((walker, person(at, 0.8)));
            }
        }
        // The order of detections says nothing.
        seen.rotate_left(frame % 5);
        let detections: Vec<_> = seen.iter().map(|(_, found)| found.clone()).collect();
        for ((walker, _), id) in seen.iter().zip(play.frame(t, &detections, &[])) {
            assert!(
                known[*walker].is_none() || known[*walker] == id,
                "{t} {walker}: {id:?}"
            );
            known[*walker] = id;
        }
    }
    let mut ids: Vec<_> = known.into_iter().flatten().collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=12).collect::<Vec<_>>());
}

#[test]
fn faint_detections_keep_a_track_and_begin_none() {
    let mut play = Play::new();
    let place = |t: f64| [100.0 + 30.0 * t, 200.0];
    for t in times(10.0, 1.0) {
        play.frame(t, &[person(place(t), 0.8)], &[person([500.0, 300.0], 0.3)]);
    }
    // Longer than a track lives without being found.
    for t in times(10.0, 6.0).skip(10) {
        let ids = play.frame(
            t,
            &[],
            &[person(place(t), 0.2), person([500.0, 300.0], 0.3)],
        );
        assert!(ids.is_empty());
        assert_eq!(play.ids(), [1]);
    }
    assert_eq!(play.frame(6.0, &[person(place(6.0), 0.8)], &[]), [Some(1)]);
    assert_eq!(play.ids(), [1]);
}

#[test]
fn what_stays_faint_is_gone_in_the_end() {
    let mut play = Play::new();
    for t in times(10.0, 1.0) {
        play.frame(t, &[person([100.0, 200.0], 0.8)], &[]);
    }
    let mut faint = |t: f64| {
        play.frame(t, &[], &[person([100.0, 200.0], 0.3)]);
        play.ids()
    };
    // 10 seconds after the last confident detection, which was that of 0.9 seconds.
    for t in times(10.0, 10.8).skip(10) {
        assert_eq!(faint(t), [1], "{t}");
    }
    assert!(faint(11.0).is_empty());
    assert_eq!(play.ended, [1]);
}

#[test]
fn who_is_hidden_for_a_moment_comes_back_and_for_long_is_new() {
    for (hidden, expected) in [(1.0, 1), (1.9, 1), (2.5, 2)] {
        let mut play = Play::new();
        let place = |t: f64| [50.0 + 50.0 * t, 200.0];
        for t in times(10.0, 2.0) {
            play.frame(t, &[person(place(t), 0.8)], &[]);
        }
        for t in times(10.0, 2.0 + hidden).skip(20) {
            play.frame(t, &[], &[]);
        }
        for t in [2.0 + hidden, 2.1 + hidden] {
            play.frame(t, &[person(place(t), 0.8)], &[]);
        }
        assert_eq!(play.ids(), [expected], "{hidden}");
        assert_eq!(play.ended, if expected == 1 { vec![] } else { vec![1] });
    }
}

#[test]
fn what_flickers_once_is_no_track() {
    let mut play = Play::new();
    for (frame, t) in times(10.0, 3.0).enumerate() {
        let flicker = person([300.0, 40.0 * frame as f64], 0.9);
        let seen = if frame % 6 == 0 {
            vec![flicker]
        } else {
            vec![]
        };
        play.frame(t, &seen, &[]);
    }
    assert!(play.ids().is_empty() && play.ended.is_empty());
    // What comes later has the first id all the same.
    play.frame(3.0, &[person([50.0, 50.0], 0.8)], &[]);
    assert_eq!(
        play.frame(3.1, &[person([50.0, 50.0], 0.8)], &[]),
        [Some(1)]
    );
}

#[test]
fn classes_are_followed_apart() {
    let mut play = Play::new();
    let pair = [
        found("dog", [100.0; 2], [50.0; 2], 0.9),
        found("horse", [101.0, 100.0], [50.0; 2], 0.8),
    ];
    play.frame(0.0, &pair, &[]);
    assert_eq!(play.frame(0.1, &pair, &[]), [Some(1), Some(2)]);
    assert_eq!(play.frame(0.2, &pair[1..], &[]), [Some(2)]);
    // Another model has other names for its classes.
    let renamed = [found("pig", [100.0; 2], [50.0; 2], 0.9)];
    assert_eq!(play.frame(0.3, &renamed, &[]), [None]);
    assert_eq!(play.frame(0.4, &renamed, &[]), [Some(3)]);
}

#[test]
fn a_lost_camera_ends_tracks_with_and_without_ticks() {
    let walk = |play: &mut Play| {
        for t in times(10.0, 1.0) {
            play.frame(t, &[person([100.0, 200.0], 0.8)], &[]);
        }
    };
    let mut play = Play::new();
    walk(&mut play);
    assert!(play.tracker.expire(play.at(2.8)).is_empty());
    let ended = play.tracker.expire(play.at(3.0));
    assert_eq!(ended.iter().map(|track| track.id).collect::<Vec<_>>(), [1]);
    assert!(play.tracker.expire(play.at(9.0)).is_empty());

    let mut play = Play::new();
    walk(&mut play);
    assert_eq!(
        play.frame(3600.0, &[person([100.0, 200.0], 0.8)], &[]),
        [None]
    );
    assert_eq!(play.ended, [1]);
    assert_eq!(
        play.frame(3600.1, &[person([100.0, 200.0], 0.8)], &[]),
        [Some(2)]
    );
    // The hour is not taken for the rate of the camera.
    assert_eq!(play.tracker.expire(play.at(3640.0)).len(), 1);
}

#[test]
fn slow_cameras_are_given_more_time() {
    let mut play = Play::new();
    for (frame, t) in times(0.25, 60.0).enumerate() {
        let seen = [person([100.0, 200.0], 0.8)];
        let missed = frame % 4 == 3;
        let ids = play.frame(t, if missed { &[] } else { &seen }, &[]);
        assert!(frame < 3 || missed || ids == [Some(1)], "{frame} {ids:?}");
    }
}

#[test]
fn the_number_of_tracks_is_bounded_and_ids_go_on() {
    let mut play = Play::new();
    let crowd = |shift: f64| -> Vec<Detection> {
        let place = |i: usize| [60.0 * (i % 40) as f64 + shift, 120.0 * (i / 40) as f64];
        (0..1000).map(|i| person(place(i), 0.9)).collect()
    };
    for t in times(10.0, 1.0) {
        play.frame(t, &crowd(0.0), &crowd(0.0));
    }
    let beside = crowd(9000.0);
    for t in times(10.0, 2.0).skip(10) {
        play.frame(t, &beside, &[]);
    }
    assert_eq!(play.ids().len(), MAX_TRACKS);
    assert_eq!(play.tracker.clear().len(), MAX_TRACKS);
    play.frame(2.0, &[person([0.0; 2], 0.9)], &[]);
    let next = MAX_TRACKS as u64 + 1;
    assert_eq!(play.frame(2.1, &[person([0.0; 2], 0.9)], &[]), [Some(next)]);
}

#[test]
fn boxes_without_extent_and_times_that_stand_still_do_no_harm() {
    let mut play = Play::new();
    for _ in 0..3 {
        play.frame(
            0.0,
            &[found("dot", [0.0; 2], [0.0; 2], 0.5), person([9.0; 2], 0.4)],
            &[],
        );
    }
    assert!(play.ids().len() <= 2);
}
