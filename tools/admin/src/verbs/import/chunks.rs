//! Lines gathered into chunks, and what a node said of a chunk brought back to its line.

use std::collections::VecDeque;

use client::Error;

/// A chunk is sent once it has so many lines.
const LINES_MAX: usize = 500;
/// A chunk is sent once it has so many bytes.
const BYTES_MAX: usize = 1 << 20;

/// Items of a chunk with the numbers of their lines.
#[derive(Debug)]
pub(super) struct Chunk<T> {
    pub(super) items: Vec<T>,
    pub(super) numbers: Vec<u64>,
    bytes: usize,
}

impl<T> Default for Chunk<T> {
    fn default() -> Chunk<T> {
        Chunk {
            items: Vec::new(),
            numbers: Vec::new(),
            bytes: 0,
        }
    }
}

impl<T> Chunk<T> {
    /// Whether it has to be sent before another item of so many bytes comes to it.
    pub(super) fn is_full(&self, bytes: usize) -> bool {
        !self.items.is_empty() && (self.items.len() == LINES_MAX || self.bytes + bytes > BYTES_MAX)
    }

    pub(super) fn push(&mut self, number: u64, item: T, bytes: usize) {
        self.items.push(item);
        self.numbers.push(number);
        self.bytes += bytes;
    }
}

/// Chunks on their way.
#[derive(Debug)]
pub(super) struct UnderWay<T>(VecDeque<Chunk<T>>);

impl<T> UnderWay<T> {
    pub(super) fn new() -> UnderWay<T> {
        UnderWay(VecDeque::new())
    }

    pub(super) fn push(&mut self, chunk: Chunk<T>) {
        self.0.push_back(chunk);
    }

    /// The chunk that the next acknowledgement is about: they come in order.
    pub(super) fn acknowledged(&mut self) -> Chunk<T> {
        self.0.pop_front().unwrap_or_default()
    }
}

/// The place in a chunk that a node's refusal is about: `writes[3]: …`, or a field `states[3].key`.
pub(super) fn place(error: &Error) -> Option<usize> {
    let fields = error.violations().iter().map(|violation| violation.field.as_str());
    let in_either = |text| in_list(text, "writes").or_else(|| in_list(text, "states"));
    fields.chain([error.message()]).find_map(in_either)
}

/// 3 of `concepts[3].name` and `concepts`.
pub(super) fn in_list(text: &str, list: &str) -> Option<usize> {
    let rest = text.strip_prefix(list)?.strip_prefix('[')?;
    rest.split_once(']')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_bounded_by_lines_and_by_bytes() {
        let mut chunk = Chunk::default();
        assert!(!chunk.is_full(2 * BYTES_MAX), "one that is larger goes alone");
        for number in 0..LINES_MAX as u64 {
            assert!(!chunk.is_full(1));
            chunk.push(number, (), 1);
        }
        assert!(chunk.is_full(1));
        let mut chunk = Chunk::default();
        chunk.push(1, (), BYTES_MAX - 1);
        assert!(!chunk.is_full(1) && chunk.is_full(2));
    }

    #[test]
    fn the_place_is_read_where_nodes_put_it() {
        assert_eq!(in_list("writes[31]: the key holds a set", "writes"), Some(31));
        assert_eq!(in_list("states[0].key", "states"), Some(0));
        assert_eq!(in_list("namespace", "states"), None);
    }
}
