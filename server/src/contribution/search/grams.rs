//! From a few bytes of folded UTF-8 to the documents that hold them.
//!
//! ```text
//!  one byte    singles[a]               ASCII only: nothing else is one letter of one byte
//!  two bytes   pairs[a‖b]               two ASCII bytes, or one letter of two bytes (Latin supplements, Greek, Cyrillic,
//!                                       Hebrew, Arabic): other pairs are no query
//!  three bytes blocks[block_of[a‖b]][c] every three bytes, aligned to letters or not
//!  more        no list of their own: every match holds each of the query's three-byte grams at a fixed distance
//! ```
//!
//! UTF-8 synchronises itself, so a substring of bytes that is valid UTF-8 is a substring of characters. Grams of bytes
//! rather than of characters keep the number of lists bounded whatever is contributed: random text in a large script
//! would otherwise make a list per two or three of its characters.

use super::{
    postings::Postings,
    text::{SEPARATOR, Text},
};

/// Bytes of the longest gram.
const GRAM_BYTES_MAX: usize = 3;

const BYTE_VALUES: usize = 256;

/// Where a gram's list stands in `lists`; 0 is the empty list.
type ListId = u32;

/// All posting lists.
#[derive(Debug)]
pub(super) struct Grams {
    /// Number 0 stays empty and stands for every gram not seen.
    lists: Vec<Postings>,
    singles: Vec<ListId>,
    pairs: Vec<ListId>,
    /// Block of a pair's three-byte grams, 0 for none; the block of number 0 stays empty.
    block_of: Vec<u32>,
    blocks: Vec<[ListId; BYTE_VALUES]>,
}

impl Grams {
    /// No documents, next to no memory.
    pub(super) fn new() -> Grams {
        Grams {
            lists: vec![Postings::default()],
            singles: Vec::new(),
            pairs: Vec::new(),
            block_of: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// Adds a document newer than all before it.
    pub(super) fn insert(&mut self, document: u32, text: &Text) {
        if self.blocks.is_empty() {
            self.singles = vec![0; BYTE_VALUES];
            self.pairs = vec![0; BYTE_VALUES * BYTE_VALUES];
            self.block_of = vec![0; BYTE_VALUES * BYTE_VALUES];
            self.blocks = vec![[0; BYTE_VALUES]];
        }
        let (mut first, mut second) = (SEPARATOR, SEPARATOR);
        // Every gram is counted at its last byte; a gram that would hold a separator is none.
        for (position, &third) in text.bytes.iter().enumerate() {
            if third != SEPARATOR {
                // A value lies wholly inside or outside of the name, so any position of the gram will do.
                let in_name = position < text.name_bytes;
                self.count(first, second, third, document, in_name);
            }
            (first, second) = (second, third);
            if third == SEPARATOR {
                first = SEPARATOR;
            }
        }
    }

    #[inline]
    fn count(&mut self, first: u8, second: u8, third: u8, document: u32, in_name: bool) {
        if third.is_ascii() {
            count(
                &mut self.lists,
                &mut self.singles[usize::from(third)],
                document,
                in_name,
            );
        }
        if second == SEPARATOR {
            return;
        }
        if is_pair(second, third) {
            count(&mut self.lists, &mut self.pairs[pair(second, third)], document, in_name);
        }
        if first == SEPARATOR {
            return;
        }
        let block = &mut self.block_of[pair(first, second)];
        if *block == 0 {
            *block = u32::try_from(self.blocks.len()).expect("fewer blocks than pairs of bytes");
            self.blocks.push([0; BYTE_VALUES]);
        }
        let slot = &mut self.blocks[*block as usize][usize::from(third)];
        count(&mut self.lists, slot, document, in_name);
    }

    /// The list of a gram that is a whole query: exact, with its counts. `None` if `gram` is empty or longer than a gram.
    pub(super) fn exact(&self, gram: &[u8]) -> Option<&Postings> {
        let list = match *gram {
            [first] => self.singles.get(usize::from(first)),
            [first, second] => self.pairs.get(pair(first, second)),
            [first, second, third] => {
                let block = self
                    .block_of
                    .get(pair(first, second))
                    .map_or(0, |&block| block as usize);
                self.blocks.get(block).map(|block| &block[usize::from(third)])
            }
            _ => return None,
        };
        Some(&self.lists[list.map_or(0, |&list| list as usize)])
    }

    /// The shortest list among the grams of a query longer than a gram: a superset of its documents, whose counts are
    /// upper bounds of the query's.
    pub(super) fn rarest(&self, query: &[u8]) -> Option<&Postings> {
        query
            .windows(GRAM_BYTES_MAX)
            .filter_map(|gram| self.exact(gram))
            .min_by_key(|list| list.weight())
    }

    /// Heap bytes held.
    pub(super) fn heap_bytes(&self) -> usize {
        self.lists.iter().map(Postings::heap_bytes).sum::<usize>()
            + self.lists.capacity() * size_of::<Postings>()
            + (self.singles.capacity() + self.pairs.capacity() + self.block_of.capacity()) * size_of::<u32>()
            + self.blocks.capacity() * size_of::<[ListId; BYTE_VALUES]>()
    }
}

/// Whether two neighbouring bytes can be a whole query.
fn is_pair(first: u8, second: u8) -> bool {
    const LEAD_OF_TWO: std::ops::RangeInclusive<u8> = 0xC2..=0xDF;
    (first.is_ascii() && second.is_ascii()) || LEAD_OF_TWO.contains(&first)
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

#[inline]
fn count(lists: &mut Vec<Postings>, slot: &mut ListId, document: u32, in_name: bool) {
    if *slot == 0 {
        // At most one per gram of one to three bytes, far below 2^32.
        *slot = lists.len() as ListId;
        lists.push(Postings::default());
    }
    lists[*slot as usize].count(document, in_name);
}
