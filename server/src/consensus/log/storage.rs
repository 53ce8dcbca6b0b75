//! What raft changes in its log.

use std::{io, mem};

use engine::{
    keyspace::{
        raft_log,
        raft_state::{self, Purged},
    },
    store::Write,
};
use openraft::{
    LogState,
    storage::{IOFlushed, RaftLogStorage},
};

use super::{
    super::types::{Entry, LogId, Types, Vote, stored_entry, stored_log_id, stored_vote},
    FRAME_BYTES_MAX, Flushed, Log, PURGE_ENTRIES_MAX, Then,
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
        let (mut frame, mut bytes) = (Vec::new(), 0);
        let mut next = self.0.state.lock().next();
        for entry in entries {
            let write = raft_log::put(entry.log_id.index, &stored_entry(&entry));
            let entry_bytes = write.key.len() + write.value.as_ref().map_or(0, Vec::len);
            if bytes > 0 && bytes + entry_bytes > FRAME_BYTES_MAX {
                self.send(mem::take(&mut frame), Then::Appended(next, None));
                bytes = 0;
            }
            next = entry.log_id.index + 1;
            bytes += entry_bytes;
            frame.push(write);
            self.0.state.lock().push(entry, entry_bytes);
        }
        self.send(frame, Then::Appended(next, Some(told)));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let deletes: Vec<Write> = {
            let mut state = self.0.state.lock();
            let (next, end) = (last.as_ref().map_or(0, |last| last.index + 1), state.next());
            let next = next.max(state.first());
            if next >= end {
                return Ok(());
            }
            let last = last.filter(|last| last.index >= state.first());
            state.truncate(next, last);
            (next..end).map(raft_log::delete).collect()
        };
        // Waited for, so that what is appended next is not taken for stored by those before.
        self.sync(deletes).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        let (from, to) = {
            let mut state = self.0.state.lock();
            let (from, next) = (state.first(), state.next());
            if upto.index < from {
                return Ok(());
            }
            let to = (upto.index + 1).min(next);
            if upto.index + 1 >= next {
                state.truncate(from, None);
                state.recent.clear();
                state.recent_bytes = 0;
                state.stored = upto.index + 1;
            } else {
                let gone = (upto.index + 1).saturating_sub(state.recent_first());
                for _ in 0..gone {
                    let Some((_, bytes)) = state.recent.pop_front() else {
                        break;
                    };
                    state.recent_bytes -= bytes;
                }
            }
            state.purged = Some(upto);
            (from, to)
        };
        let mut writes = vec![raft_state::put(&Purged(stored_log_id(&upto)))];
        for index in from..to {
            writes.push(raft_log::delete(index));
            if writes.len() as u64 >= PURGE_ENTRIES_MAX {
                self.send(mem::take(&mut writes), Then::Nothing);
            }
        }
        self.send(writes, Then::Nothing);
        Ok(())
    }
}
