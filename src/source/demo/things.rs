//! What lies on the table.

use super::motion::Motion;

/// A flat box with a picture on its top. Lengths are in units of the scene.
pub(super) struct Thing {
    /// A PNG, drawn by `art/make_art.py`.
    pub picture: &'static [u8],
    /// Along the picture's rows, and its columns.
    pub size: [f64; 2],
    pub height: f64,
    /// The colour of its sides.
    pub sides: [u8; 3],
    pub motion: Motion,
    pub code: Option<PrintedCode>,
}

/// A code in a thing's picture.
pub(super) struct PrintedCode {
    /// Its class, as in `labels/codes.txt`.
    pub label: &'static str,
    /// The modules without quiet zone, in pixels of the picture: left, top, right, bottom.
    pub place: [u16; 4],
}

const PAPER: [u8; 3] = [226, 224, 218];

macro_rules! art {
    ($name:literal) => {
        include_bytes!(concat!("art/", $name, ".png"))
    };
}

/// Things without codes, from the lowest up. They never move.
pub(super) const BACKGROUND: [Thing; 4] = [
    Thing {
        picture: art!("road"),
        size: [1140.0, 112.0],
        height: 0.0,
        sides: PAPER,
        motion: Motion::Still {
            at: [0.0, -38.0],
            turn: 0.0,
        },
        code: None,
    },
    Thing {
        picture: art!("page"),
        size: [200.0, 260.0],
        height: 0.5,
        sides: PAPER,
        motion: Motion::Still {
            at: [-352.0, -190.0],
            turn: 0.03,
        },
        code: None,
    },
    Thing {
        picture: art!("ruler"),
        size: [420.0, 30.0],
        height: 2.0,
        sides: [176, 140, 60],
        motion: Motion::Still {
            at: [170.0, -318.0],
            turn: 0.012,
        },
        code: None,
    },
    Thing {
        picture: art!("board"),
        size: [130.0, 130.0],
        height: 6.0,
        sides: [150, 120, 84],
        motion: Motion::Still {
            at: [286.0, 232.0],
            turn: 0.06,
        },
        code: None,
    },
];

/// Things with codes. They keep apart from each other.
pub(super) const THINGS: [Thing; 7] = [
    Thing {
        picture: art!("ticket"),
        size: [226.0, 116.0],
        height: 0.5,
        sides: PAPER,
        motion: Motion::Sway {
            home: [-208.0, -206.0],
            reach: [16.0, 10.0],
            turn: -0.015,
            swing: 0.02,
            period: 210,
        },
        code: Some(PrintedCode {
            label: "aztec",
            place: [530, 118, 845, 433],
        }),
    },
    Thing {
        picture: art!("label"),
        size: [186.0, 124.0],
        height: 0.5,
        sides: PAPER,
        motion: Motion::Sway {
            home: [50.0, -210.0],
            reach: [14.0, 4.0],
            turn: 0.0,
            swing: 0.055,
            period: 240,
        },
        code: Some(PrintedCode {
            label: "barcode",
            place: [70, 160, 673, 392],
        }),
    },
    Thing {
        picture: art!("card"),
        size: [108.0, 124.0],
        height: 1.0,
        sides: PAPER,
        motion: Motion::Sway {
            home: [254.0, -214.0],
            reach: [10.0, 10.0],
            turn: 0.02,
            swing: 0.045,
            period: 180,
        },
        code: Some(PrintedCode {
            label: "marker",
            place: [56, 48, 376, 368],
        }),
    },
    Thing {
        picture: art!("robot"),
        size: [122.0, 100.0],
        height: 24.0,
        sides: [178, 98, 22],
        motion: Motion::Patrol {
            y: -32.0,
            reach: 222.0,
            period: 360,
        },
        code: Some(PrintedCode {
            label: "marker",
            place: [48, 64, 318, 334],
        }),
    },
    Thing {
        picture: art!("parcel"),
        size: [132.0, 144.0],
        height: 44.0,
        sides: [176, 134, 90],
        motion: Motion::Sway {
            home: [-190.0, 138.0],
            reach: [12.0, 8.0],
            turn: 0.005,
            swing: 0.025,
            period: 150,
        },
        code: Some(PrintedCode {
            label: "qr_code",
            place: [89, 72, 439, 422],
        }),
    },
    Thing {
        picture: art!("boarding"),
        size: [212.0, 124.0],
        height: 0.5,
        sides: PAPER,
        motion: Motion::Sway {
            home: [10.0, 124.0],
            reach: [4.0, 18.0],
            turn: 0.0,
            swing: 0.028,
            period: 270,
        },
        code: Some(PrintedCode {
            label: "pdf417",
            place: [64, 216, 785, 447],
        }),
    },
    Thing {
        picture: art!("chip"),
        size: [136.0, 128.0],
        height: 5.0,
        sides: [16, 70, 48],
        motion: Motion::Sway {
            home: [212.0, 114.0],
            reach: [3.0, 18.0],
            turn: -0.01,
            swing: 0.025,
            period: 200,
        },
        code: Some(PrintedCode {
            label: "data_matrix",
            place: [128, 88, 416, 376],
        }),
    },
];
