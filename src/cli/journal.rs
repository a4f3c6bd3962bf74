//! Lines as systemd's journal wants them: it adds time and program, and takes the priority from the line.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

use log::Level;

/// Whether stderr goes to the journal: `JOURNAL_STREAM` names its device and inode (systemd.exec(5)).
pub(super) fn takes_stderr() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    // The link leads to whatever stderr is, be it a socket.
    std::fs::metadata("/proc/self/fd/2").is_ok_and(|stderr| names(&stream, &stderr))
}

fn names(stream: &str, file: &Metadata) -> bool {
    stream == format!("{}:{}", file.dev(), file.ino())
}

/// The lines of a text, each with its priority in front (sd-daemon(3)) and a line break behind.
pub(super) fn lines(level: Level, text: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    text.lines()
        .map(|line| format!("<{priority}>{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_priority() {
        assert_eq!(lines(Level::Error, "a\nb"), "<3>a\n<3>b\n");
        assert_eq!(lines(Level::Warn, "a\n"), "<4>a\n");
        assert_eq!(lines(Level::Info, "a"), "<6>a\n");
        assert_eq!(lines(Level::Trace, "a"), "<7>a\n");
    }

    #[test]
    fn the_stream_is_known_by_device_and_inode() {
        let file = tempfile::tempfile().unwrap().metadata().unwrap();
        assert!(names(&format!("{}:{}", file.dev(), file.ino()), &file));
        assert!(!names(&format!("{}:{}", file.dev(), file.ino() + 1), &file));
        assert!(!names("", &file));
    }
}
