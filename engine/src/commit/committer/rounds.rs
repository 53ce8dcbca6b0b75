//! A round, from its batches to the applier.

use super::{Committer, Filling, Group, Merged, RAFT_RETRY, Written, after};

impl Committer {
    /// Carries out a round, and one that shares its sync.
    pub(super) fn commit(&mut self, filling: Filling, company: Option<Filling>) -> Result<(), String> {
        self.write_round(filling, company.is_some())?;
        if let Some(company) = company {
            self.write_round(company, false)?;
        }
        self.hand_on_written()?;
        self.flush_if_due()
    }

    /// Writes a round: one group, or more when its batches turn out larger than they looked. With another to come it is not
    /// handed on yet.
    fn write_round(&mut self, mut filling: Filling, another: bool) -> Result<(), String> {
        if !filling.raft {
            self.taken += filling.batches.len() as u64;
        }
        self.written_synced |= filling.synced;
        while filling.outcomes.len() < filling.batches.len() {
            self.merger.settle(self.progress.applied_group());
            let number = self.sent + self.written.len() as u64 + 1;
            let rest = &filling.batches[filling.outcomes.len()..];
            let (mut merged, before) = match self.write_group(rest, number, filling.raft)? {
                Written::Group(merged, before) => (merged, before),
                Written::Refused(refused) => {
                    filling.outcomes.extend(refused);
                    continue;
                }
                Written::NoRoom => {
                    self.raft_held_until = Some(after(RAFT_RETRY));
                    self.queue.put_back(filling);
                    return Ok(());
                }
            };
            filling.outcomes.extend(merged.outcomes(before));
            let is_last = filling.outcomes.len() == filling.batches.len();
            let Merged { buffer, records, .. } = merged;
            let mut group = Group {
                number,
                buffer,
                records,
                last: self.log.last(),
                done: None,
            };
            if is_last {
                group.done = Some((filling.completion, filling.outcomes));
                self.written.push(group);
                return if another { Ok(()) } else { self.hand_on_written() };
            }
            self.written.push(group);
            self.hand_on_written()?;
            self.written_synced |= filling.synced;
            self.flush_if_due()?;
        }
        // The last batches were refused, so no group carries the answers: those before it must be applied first.
        self.drain_applier()?;
        self.progress.answer(filling.completion, filling.outcomes);
        Ok(())
    }

    /// Has what is written applied, synced before if anybody asked for it.
    pub(super) fn hand_on_written(&mut self) -> Result<(), String> {
        let synced = std::mem::take(&mut self.written_synced);
        if self.written.is_empty() {
            return Ok(());
        }
        self.sync_or_schedule(synced)?;
        std::mem::take(&mut self.written)
            .into_iter()
            .try_for_each(|group| self.hand_on(group))
    }

    /// Has the group applied: here when nothing is under way before it and nobody waits behind it.
    fn hand_on(&mut self, group: Group) -> Result<(), String> {
        let nothing_before = self.progress.applied_group() == self.sent;
        self.sent = group.number;
        if nothing_before && self.queue.is_empty() {
            return self.applier.apply(group);
        }
        self.groups
            .send(group)
            .map_err(|_| self.fatal(&"the applier has stopped"))
    }
}
