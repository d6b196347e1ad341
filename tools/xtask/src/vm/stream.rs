//! Copies the guest's output while it runs.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread::JoinHandle;

/// Standard output that also sends every complete line to a channel.
pub(crate) struct Tee {
    line: Vec<u8>,
    lines: mpsc::Sender<String>,
}

impl Tee {
    pub(crate) fn new(lines: mpsc::Sender<String>) -> Self {
        Self {
            line: Vec::new(),
            lines,
        }
    }
}

impl Write for Tee {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            if *byte == b'\n' {
                let _ = self
                    .lines
                    .send(String::from_utf8_lossy(&self.line).into_owned());
                self.line.clear();
            } else {
                self.line.push(*byte);
            }
        }
        std::io::stdout().write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stdout().flush()
    }
}

/// The end mark of a stream, and its callback. A stream that ends without the mark was cut off.
pub(crate) struct End {
    /// Never empty, and never part of the data.
    pub(crate) mark: Vec<u8>,
    /// Called once, after everything before the mark was copied.
    pub(crate) seen: Box<dyn FnOnce() + Send>,
}

/// Copies in a separate thread until the source ends, leaving out the mark of `end`.
pub(crate) fn pump(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
    mut end: Option<End>,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        let mut held: Vec<u8> = Vec::new();
        loop {
            let count = match from.read(&mut buffer) {
                Ok(count) if count > 0 => count,
                _ => break,
            };
            held.extend_from_slice(buffer.get(..count).unwrap_or_default());
            let mark = end.as_ref().map_or(&[][..], |end| &end.mark);
            let ended = !mark.is_empty() && held.ends_with(mark);
            let ready = held.len() - begun(&held, mark);
            // A reader that has gone must not stall the guest: keep draining the pipe.
            let _ = to.write_all(held.get(..ready).unwrap_or_default());
            let _ = to.flush();
            held.drain(..ready);
            if ended && let Some(end) = end.take() {
                held.clear();
                (end.seen)();
            }
        }
        let _ = to.write_all(&held);
        let _ = to.flush();
    })
}

/// Number of bytes at the end of `text` that may be the beginning, or all, of `mark`.
fn begun(text: &[u8], mark: &[u8]) -> usize {
    let longest = mark.len().min(text.len());
    let begins = |len: &usize| text.ends_with(mark.get(..*len).unwrap_or_default());
    (1..=longest).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    struct Pieces(Vec<&'static [u8]>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            buffer[..piece.len()].copy_from_slice(piece);
            Ok(piece.len())
        }
    }

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("sane").write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn pumped(pieces: &[&'static [u8]]) -> (String, bool) {
        let (sink, called) = (Sink::default(), Arc::new(Mutex::new(false)));
        let call = Arc::clone(&called);
        let end = End {
            mark: b"<end>".to_vec(),
            seen: Box::new(move || *call.lock().expect("sane") = true),
        };
        let thread = pump(Pieces(pieces.to_vec()), sink.clone(), Some(end));
        thread.join().expect("no panic");
        let text = String::from_utf8(sink.0.lock().expect("sane").clone()).expect("text");
        let seen = *called.lock().expect("sane");
        (text, seen)
    }

    #[test]
    fn the_mark_is_found_across_reads_and_left_out() {
        assert_eq!(pumped(&[b"a\n", b"b <e", b"nd>"]), ("a\nb ".into(), true));
        assert_eq!(pumped(&[b"<end>"]), (String::new(), true));
    }

    #[test]
    fn what_only_looks_like_the_mark_is_handed_on() {
        assert_eq!(pumped(&[b"x<e", b"x<en"]), ("x<ex<en".into(), false));
    }
}
