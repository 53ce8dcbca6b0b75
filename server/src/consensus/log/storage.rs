//! What raft changes in its log.

use std::{io, mem};

use engine::{
    keyspace::{
        raft_log,
        raft_state::{self, Applied, Purged, Snapshot},
    },
    store::Write,
};
use openraft::{
    LogState,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    super::types::{Entry, LogId, Types, Vote, fatal, stored_entry, stored_log_id, stored_vote},
    DELETED_ENTRIES_MAX, ENTRY_BYTES, FRAME_BYTES_MAX, Flushed, Log, Then, entry_bytes_max,
};

impl RaftLogStorage<Types> for Log {
    type LogReader = Log;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let state = self.0.state.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last.or(state.purged),
        })
    }

    async fn get_log_reader(&mut self) -> Log {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.sync(vec![raft_state::put(&stored_vote(vote))]).await?;
        self.0.state.lock().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let told = Flushed(Some(callback));
        let entry_bytes_max = entry_bytes_max(&self.0.engine);
        let (mut writes, mut appended_bytes) = (Vec::new(), 0);
        for entry in entries {
            let write = raft_log::put(entry.log_id.index, &stored_entry(&entry));
            let bytes = ENTRY_BYTES + write.key.len() + write.value.as_ref().map_or(0, Vec::len);
            if bytes > entry_bytes_max {
                // Before anything is written, for what would follow it must not be.
                let index = entry.log_id.index;
                return Err(fatal(format!("entry {index} has {bytes} bytes, {entry_bytes_max} fit")));
            }
            appended_bytes += bytes - ENTRY_BYTES;
            writes.push((entry, write, bytes));
        }
        self.0.appended_bytes.increment(appended_bytes as u64);
        let frame_bytes_max = FRAME_BYTES_MAX.min(entry_bytes_max);
        let (mut frame, mut frame_bytes) = (Vec::new(), 0);
        let mut next = self.0.state.lock().next();
        for (entry, write, bytes) in writes {
            if frame_bytes > 0 && frame_bytes + bytes > frame_bytes_max {
                self.send(mem::take(&mut frame), Then::Appended(next, None));
                frame_bytes = 0;
            }
            next = entry.log_id.index + 1;
            frame_bytes += bytes;
            frame.push(write);
            self.0.state.lock().push(entry, bytes);
        }
        self.send(frame, Then::Appended(next, Some(told)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let (next, mut end) = {
            let mut state = self.0.state.lock();
            let (next, end) = (last.as_ref().map_or(0, |last| last.index + 1), state.next());
            let next = next.max(state.first);
            if next >= end {
                return Ok(());
            }
            let last = last.filter(|last| last.index >= state.first);
            state.truncate(next, last);
            (next, end)
        };
        // From the end on, so that no frame leaves a hole.
        while end - next > DELETED_ENTRIES_MAX {
            let begin = end - DELETED_ENTRIES_MAX;
            self.send(deletes(begin, end), Then::Nothing);
            end = begin;
        }
        // Waited for, so that what is appended next is not taken for stored by those before.
        self.sync(deletes(next, end)).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (from, next) = {
            let state = self.0.state.lock();
            (state.first, state.next())
        };
        if upto.index < from {
            return Ok(());
        }
        let to = (upto.index + 1).min(next);
        let steps = self.purge_steps(from, to)?;
        {
            let mut state = self.0.state.lock();
            if upto.index + 1 >= next {
                state.truncate(from, None);
                state.stored = upto.index + 1;
            }
            state.forget(upto.index + 1);
            state.first = upto.index + 1;
            state.purged = Some(upto);
        }
        let mut begin = from;
        for step in steps {
            self.send(purged(begin, step.index + 1, &step), Then::Nothing);
            begin = step.index + 1;
        }
        let mut writes = purged(begin, to, &upto);
        if upto.index < next {
            self.send(writes, Then::Nothing);
            return Ok(());
        }
        // Beyond the end: a snapshot was installed, or what is applied outlived a power cut and the end of the log did not.
        writes.extend(self.snapshot_of_the_applied(&upto)?);
        self.sync(writes).await
    }
}

impl Log {
    /// Lets a log begin behind `applied` that ends before it: an install was cut short, or what is applied outlived a power cut and the
    /// end of the log did not. openraft does so itself, but not where the log ends with an entry of a later leader (one that was never
    /// decided): it would go on there, and wait for ever until what is applied already is.
    pub(in super::super) async fn begin_behind(&mut self, applied: Option<LogId>) -> io::Result<()> {
        match applied {
            Some(applied) if self.0.state.lock().next() <= applied.index => self.purge(applied).await,
            _ => Ok(()),
        }
    }

    /// What stands for the entries before a log that begins behind `last`: what is applied, if no snapshot has come so far.
    fn snapshot_of_the_applied(&self, last: &LogId) -> io::Result<Option<Write>> {
        let view = self.0.engine.view();
        let Some(applied): Option<Applied> = raft_state::read(view).map_err(fatal)? else {
            return Ok(None);
        };
        let snapshot: Option<Snapshot> = raft_state::read(view).map_err(fatal)?;
        let is_older = snapshot.and_then(|Snapshot(of)| of.last) < applied.last;
        let is_all = applied.last == Some(stored_log_id(last));
        Ok((is_all && is_older).then(|| raft_state::put(&Snapshot(applied))))
    }

    /// The entries at which a purge of `[from, to)` pauses: a log that is cut there is a log.
    fn purge_steps(&self, from: u64, to: u64) -> io::Result<Vec<LogId>> {
        let mut steps = Vec::new();
        let mut end = from + DELETED_ENTRIES_MAX;
        while end < to {
            steps.extend(self.read(end - 1, end)?.iter().map(|entry| entry.log_id));
            end += DELETED_ENTRIES_MAX;
        }
        Ok(steps)
    }
}

fn deletes(from: u64, to: u64) -> Vec<Write> {
    (from..to).map(raft_log::delete).collect()
}

/// The frame that takes `[from, to)` away: the log begins behind `last`, be it in it or not.
fn purged(from: u64, to: u64, last: &LogId) -> Vec<Write> {
    let mut writes = deletes(from, to);
    writes.push(raft_state::put(&Purged(stored_log_id(last))));
    writes
}
