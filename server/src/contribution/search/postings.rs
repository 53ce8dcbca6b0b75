//! One gram's documents, packed: a byte or two for each document.
//!
//! ```text
//!  packed:  code(gap << 2 | tag) [code(in_name) code(total)]   …   ░░ slack      open: the newest document, still counting
//!
//!  gap = document − the one before it                   tag 0: in_name 0, total 1      2: in_name 0, total 2
//!  code(v) = n bytes, little endian:                        1: in_name 1, total 1      3: both counts follow
//!            n − 1 ones, a zero, 7n bits of v
//! ```
//!
//! Documents arrive in ascending order; the newest stays open so that its counts can grow in place, and is packed when
//! the next one begins. A reader sees the packed ones and then the open one. The slack of at least [`WORD`] bytes lets
//! every code be written and read as one word, without a branch on its length.

/// How often a gram stands in one document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Posting {
    pub(super) document: u32,
    /// Positions inside the value of `name`.
    pub(super) in_name: u32,
    /// All positions, those in `name` included.
    pub(super) total: u32,
}

/// The postings of one gram, ascending by document.
#[derive(Debug, Default)]
pub(super) struct Postings {
    /// `used` bytes of codes, then slack.
    packed: Vec<u8>,
    used: u32,
    /// The last packed document; 0 before the first.
    packed_until: u32,
    /// Not packed yet; `total` is 0 while there is none.
    open: Posting,
}

const TAG_BITS: u32 = 2;
const TAG_COUNTS_FOLLOW: u64 = 3;
/// Bytes written and read at once; a code has at most five.
const WORD: usize = size_of::<u64>();
/// Codes of one posting.
const CODES_MAX: usize = 3;

impl Postings {
    /// Counts one more position in `document`, which is the newest one or newer.
    #[inline]
    pub(super) fn count(&mut self, document: u32, in_name: bool) {
        if self.open.document != document || self.open.total == 0 {
            if self.open.total > 0 {
                self.pack();
            }
            self.open = Posting {
                document,
                in_name: 0,
                total: 0,
            };
        }
        self.open.in_name += u32::from(in_name);
        self.open.total += 1;
    }

    /// All documents, ascending.
    pub(super) fn iter(&self) -> Iter<'_> {
        let open = (self.open.total > 0).then_some(self.open);
        Iter {
            packed: &self.packed,
            at: 0,
            used: self.used as usize,
            document: 0,
            open,
        }
    }

    /// Rises with the number of documents; only good for comparing lists.
    pub(super) fn weight(&self) -> u32 {
        self.used
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.packed.capacity()
    }

    fn pack(&mut self) {
        let Posting {
            document,
            in_name,
            total,
        } = self.open;
        if self.packed.len() < self.used as usize + CODES_MAX * WORD {
            self.grow();
        }
        let gap = u64::from(document - self.packed_until) << TAG_BITS;
        self.packed_until = document;
        // (1, 0) cannot be: a position in the name is one of all.
        if total == 1 || (in_name, total) == (0, 2) {
            self.push(gap | u64::from(in_name) | u64::from(total - 1) << 1);
        } else {
            self.push(gap | TAG_COUNTS_FOLLOW);
            self.push(u64::from(in_name));
            self.push(u64::from(total));
        }
    }

    /// Grows by a fifth, not by doubling: with tens of thousands of lists the slack would outweigh what they hold.
    #[cold]
    fn grow(&mut self) {
        let used = self.used as usize;
        let length = used + CODES_MAX * WORD + used / 5;
        self.packed.reserve_exact(length - self.packed.len());
        self.packed.resize(length, 0);
    }

    /// The caller has seen to room for a word.
    #[inline]
    fn push(&mut self, value: u64) {
        let bits = u64::BITS - (value | 1).leading_zeros();
        let bytes = bits.div_ceil(7);
        let code = value << bytes | ((1 << (bytes - 1)) - 1);
        let at = self.used as usize;
        self.packed[at..at + WORD].copy_from_slice(&code.to_le_bytes());
        self.used += bytes;
    }
}

/// Reads [`Postings`].
#[derive(Clone, Debug)]
pub(super) struct Iter<'a> {
    packed: &'a [u8],
    at: usize,
    used: usize,
    document: u32,
    open: Option<Posting>,
}

impl Iter<'_> {
    #[inline]
    fn code(&mut self) -> u64 {
        let word = self.packed[self.at..]
            .first_chunk()
            .expect("a word of slack follows every code");
        let word = u64::from_le_bytes(*word);
        let bytes = word.trailing_ones() + 1;
        self.at += bytes as usize;
        word << (u64::BITS - 8 * bytes) >> (u64::BITS - 7 * bytes)
    }
}

impl Iterator for Iter<'_> {
    type Item = Posting;

    #[inline]
    fn next(&mut self) -> Option<Posting> {
        if self.at >= self.used {
            return self.open.take();
        }
        let head = self.code();
        self.document += (head >> TAG_BITS) as u32;
        let (in_name, total) = match head & TAG_COUNTS_FOLLOW {
            TAG_COUNTS_FOLLOW => (self.code() as u32, self.code() as u32),
            tag => ((tag & 1) as u32, 1 + (tag >> 1) as u32),
        };
        Some(Posting {
            document: self.document,
            in_name,
            total,
        })
    }
}
