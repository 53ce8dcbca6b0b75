//! One file in memory, sector by sector: what is seen, what is durable, and what a power cut may leave.

use std::collections::{BTreeMap, BTreeSet};

/// The unit a device writes whole or torn.
const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];
const ZERO: Sector = [0; SECTOR_BYTES];

/// One file. Sectors that are not there read as zero.
#[derive(Clone, Default)]
pub(super) struct Content {
    length: u64,
    durable_length: u64,
    visible: BTreeMap<u64, Sector>,
    durable: BTreeMap<u64, Sector>,
    /// Every content a sector had since it was last durable, oldest first.
    versions: BTreeMap<u64, Vec<Sector>>,
    /// Sectors the next sync writes out. A failed sync empties this and leaves the versions.
    dirty: BTreeSet<u64>,
}

impl Content {
    pub(super) fn allocated(length: u64) -> Content {
        Content {
            length,
            ..Content::default()
        }
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Reads what is visible; returns how much of `buffer` lies inside the file.
    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> usize {
        let length = self.length.saturating_sub(offset).min(buffer.len() as u64) as usize;
        buffer[..length].fill(0);
        for (sector, inside, at) in pieces(offset, length) {
            if let Some(bytes) = self.visible.get(&sector) {
                buffer[at..at + inside.len()].copy_from_slice(&bytes[inside]);
            }
        }
        length
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        for (sector, inside, at) in pieces(offset, bytes.len()) {
            let content = self.visible.entry(sector).or_insert(ZERO);
            content[inside.clone()].copy_from_slice(&bytes[at..at + inside.len()]);
            self.versions.entry(sector).or_default().push(*content);
            self.dirty.insert(sector);
        }
        self.length = self.length.max(offset + bytes.len() as u64);
    }

    pub(super) fn sync(&mut self) {
        for sector in std::mem::take(&mut self.dirty) {
            self.durable.insert(sector, self.visible[&sector]);
            self.versions.remove(&sector);
        }
        self.durable_length = self.length;
    }

    /// The kernel gives up on what it could not write: it stays visible, and no later sync writes it.
    pub(super) fn fail_sync(&mut self) {
        self.dirty.clear();
    }

    pub(super) fn overwrite(&mut self, offset: u64, bytes: &[u8]) {
        for (sector, inside, at) in pieces(offset, bytes.len()) {
            for content in [&mut self.visible, &mut self.durable] {
                content.entry(sector).or_insert(ZERO)[inside.clone()].copy_from_slice(&bytes[at..at + inside.len()]);
            }
        }
    }

    pub(super) fn truncate(&mut self, length: u64) {
        let end = length.div_ceil(SECTOR_BYTES as u64);
        for content in [&mut self.visible, &mut self.durable] {
            content.split_off(&end);
            if let Some(last) = end.checked_sub(1).and_then(|last| content.get_mut(&last)) {
                last[(length - (end - 1) * SECTOR_BYTES as u64) as usize..].fill(0);
            }
        }
        self.versions.split_off(&end);
        self.dirty.split_off(&end);
        self.length = length;
        self.durable_length = length;
    }

    /// Each unsynced sector arrives with a chance of `kept_percent`, is lost, stays at an older version, or is torn.
    pub(super) fn survive_at_random(&mut self, dice: &mut Dice, kept_percent: usize) {
        for (sector, versions) in std::mem::take(&mut self.versions) {
            let durable = self.durable.get(&sector).copied().unwrap_or(ZERO);
            let newest = versions.len() - 1;
            let chosen = dice.below(versions.len());
            let before = chosen.checked_sub(1).map_or(durable, |before| versions[before]);
            let survivor = match dice.below(3) {
                _ if dice.below(100) < kept_percent => versions[newest],
                0 => durable,
                1 => versions[chosen],
                _ => torn(&versions[chosen], &before, dice.below(SECTOR_BYTES)),
            };
            self.durable.insert(sector, survivor);
        }
        let length = match dice.below(3) {
            _ if dice.below(100) < kept_percent => self.length,
            0 => self.durable_length,
            _ => self.durable_length + dice.below((self.length - self.durable_length) as usize + 1) as u64,
        };
        self.settle(length);
    }

    /// What was written below `offset` arrived, what was written from there on did not.
    pub(super) fn survive_below(&mut self, offset: u64) {
        for (sector, versions) in std::mem::take(&mut self.versions) {
            let durable = self.durable.get(&sector).copied().unwrap_or(ZERO);
            let newest = versions[versions.len() - 1];
            let arrived = offset
                .saturating_sub(sector * SECTOR_BYTES as u64)
                .min(SECTOR_BYTES as u64);
            self.durable.insert(sector, torn(&newest, &durable, arrived as usize));
        }
        self.settle(self.length);
    }

    fn settle(&mut self, length: u64) {
        self.visible = self.durable.clone();
        self.truncate(length);
    }
}

/// The sectors that `length` bytes at `offset` touch: number, range inside the sector, place in the bytes.
fn pieces(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = done;
        let position = offset + at as u64;
        let start = (position % SECTOR_BYTES as u64) as usize;
        let size = (SECTOR_BYTES - start).min(length - at);
        done += size;
        (size > 0).then(|| (position / SECTOR_BYTES as u64, start..start + size, at))
    })
}

fn torn(new: &Sector, old: &Sector, new_bytes: usize) -> Sector {
    let mut sector = *old;
    sector[..new_bytes].copy_from_slice(&new[..new_bytes]);
    sector
}

/// Choices from a seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `limit`, which is not 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % limit as u64) as usize
    }
}
