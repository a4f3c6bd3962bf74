//! How things move on the table: closed paths, each a function of the number of the frame.

use super::texture::smooth;

/// Where a thing lies on the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Pose {
    /// Its middle.
    pub at: [f64; 2],
    /// Cosine and sine of its turn, from `x` towards `y`.
    pub turn: [f64; 2],
}

/// A path that begins again after `period` frames.
#[derive(Clone, Copy, Debug)]
pub(super) enum Motion {
    /// Lies still, turned by so many full turns.
    Still { at: [f64; 2], turn: f64 },
    /// On an ellipse round `home`, and turns to and fro by `swing` full turns about `turn` meanwhile.
    Sway {
        home: [f64; 2],
        reach: [f64; 2],
        turn: f64,
        swing: f64,
        period: u64,
    },
    /// To and fro between `-reach` and `reach` along `x`, always forwards: turns round at either end.
    Patrol { y: f64, reach: f64, period: u64 },
}

impl Motion {
    /// The pose in frame `n`.
    pub fn pose(&self, n: u64) -> Pose {
        match *self {
            Self::Still { at, turn } => Pose {
                at,
                turn: circle(turn),
            },
            Self::Sway {
                home,
                reach,
                turn,
                swing,
                period,
            } => {
                let [cosine, sine] = circle(phase(n, period));
                Pose {
                    at: [home[0] + reach[0] * sine, home[1] + reach[1] * cosine],
                    turn: circle(turn + swing * sine),
                }
            }
            Self::Patrol { y, reach, period } => patrol(y, reach, phase(n, period)),
        }
    }
}

/// Drives for two fifths of its time, turns for a tenth, and the same back.
fn patrol(y: f64, reach: f64, phase: f64) -> Pose {
    let (half, way) = if phase < 0.5 {
        (phase, 1.0)
    } else {
        (phase - 0.5, -1.0)
    };
    let gone = smooth((half / 0.4).min(1.0));
    let turned = smooth(((half - 0.4) / 0.1).max(0.0));
    let [cosine, sine] = circle(turned / 2.0);
    Pose {
        at: [way * reach * (2.0 * gone - 1.0), y],
        turn: [way * cosine, way * sine],
    }
}

/// How much of its period has gone by in frame `n`, `[0, 1)`.
fn phase(n: u64, period: u64) -> f64 {
    (n % period) as f64 / period as f64
}

/// Cosine and sine of a full turn times `turns`: the library's differ between machines.
fn circle(turns: f64) -> [f64; 2] {
    [sine(turns + 0.25), sine(turns)]
}

/// The Taylor series of the sine up to its 9th power, from a quarter turn either side of 0: within 4e-6.
fn sine(turns: f64) -> f64 {
    let turns = turns - (turns + 0.5).floor();
    let quarter = if turns.abs() > 0.25 {
        turns.signum() * 0.5 - turns
    } else {
        turns
    };
    let x = quarter * std::f64::consts::TAU;
    let square = x * x;
    let series = 1.0 - square / 72.0;
    let series = 1.0 - square / 42.0 * series;
    let series = 1.0 - square / 20.0 * series;
    x * (1.0 - square / 6.0 * series)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circle_is_that_of_the_library() {
        for i in -300..300 {
            let turns = f64::from(i) / 97.0;
            let (sine, cosine) = (turns * std::f64::consts::TAU).sin_cos();
            let ours = circle(turns);
            assert!(
                (ours[0] - cosine).abs() < 4e-6 && (ours[1] - sine).abs() < 4e-6,
                "{turns}"
            );
        }
    }

    #[test]
    fn paths_are_closed_and_have_no_jumps() {
        let sway = Motion::Sway {
            home: [10.0, 20.0],
            reach: [30.0, 5.0],
            turn: 0.1,
            swing: 0.1,
            period: 200,
        };
        let patrol = Motion::Patrol {
            y: 5.0,
            reach: 200.0,
            period: 300,
        };
        for (motion, period) in [(sway, 200), (patrol, 300)] {
            assert_eq!(motion.pose(7), motion.pose(7 + 3 * period));
            for n in 0..period {
                let (a, b) = (motion.pose(n), motion.pose(n + 1));
                let moved = (0..2)
                    .map(|i| (a.at[i] - b.at[i]).abs())
                    .fold(0.0, f64::max);
                let turned = (0..2)
                    .map(|i| (a.turn[i] - b.turn[i]).abs())
                    .fold(0.0, f64::max);
                assert!(moved < 6.0 && turned < 0.2, "{n}: {a:?} {b:?}");
            }
        }
        assert_eq!(patrol.pose(60).turn, circle(0.0));
        assert!((patrol.pose(210).turn[0] + 1.0).abs() < 1e-5);
        assert_eq!(patrol.pose(u64::MAX), patrol.pose(u64::MAX % 300));
    }
}
