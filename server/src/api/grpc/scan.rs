//! `Concepts/Scan`: many concepts, all as they were at one moment.
//!
//! ```text
//!  committed LSN, read first ─► one iterator = one snapshot ─► pages of ≤ 1000 concepts, ≤ 256 KiB ─► Outlet
//! ```
//!
//! The LSN is read before the snapshot is taken: the snapshot holds every change up to it, and perhaps some later ones,
//! which a watch from there brings once more. The other way round one could be missed.
//!
//! A scan holds a blocking thread and the snapshot for as long as it lives, so there are few at a time, and one whose
//! caller takes nothing is ended.

use prost::Message;
use proto::v1::{ScanRequest, ScanResponse};

use super::{
    concepts::{MakeConcept, Service},
    fields,
    flow::{self, Flow, Gone, Outlet},
    status::Refused,
};
use crate::runtime::tasks;

/// A page ends once it holds so many bytes: large enough that messages cost nothing, small enough that the caller works on
/// one while the next is made.
const PAGE_BYTES_MAX: usize = 256 * 1024;
/// A page ends, perhaps empty, once so many keys were looked at: a caller that has gone is noticed among deleted keys too.
const PAGE_KEYS_EXAMINED_MAX: usize = 10_000;

impl Service {
    /// Begins a scan.
    pub(super) async fn scan_checked(&self, request: &ScanRequest) -> Result<Flow<ScanResponse>, Refused> {
        let namespace = self.namespace(&request.namespace)?;
        let prefix = fields::prefix(&request.prefix)?.to_vec();
        let start_after = fields::bound("start_after", &request.start_after)?;
        let end = fields::bound("end", &request.end)?;
        let page_size = fields::message_size(request.page_size)?;
        let with_contexts = !request.omit_contexts;
        let index = self.index(&namespace, request.stale_ok).await?;
        let place = self.scan_place()?;
        let (outlet, flow) = flow::open(self.settings().stall_max, self.stop());
        let service = self.clone();
        tasks::start_blocking(move || {
            let _place = place;
            let lsn = *service.engine().committed().borrow();
            let first = ScanResponse {
                lsn: lsn.0,
                resume_token: service.position_token(namespace.id, &prefix, lsn),
                concepts: Vec::new(),
                index,
            };
            let mut pages = Pages::new(page_size, end, first, &outlet);
            let mut take = |key: &[u8], concept: MakeConcept<'_>| pages.take(key, concept).is_ok();
            let walked = service.walk(&namespace, &prefix, start_after.as_deref(), with_contexts, &mut take);
            match walked {
                Ok(()) => {
                    pages.finish();
                    outlet.finish();
                }
                Err(error) => outlet.fail(error.into()),
            }
        });
        Ok(flow)
    }
}

/// The page being filled, and where full ones go.
struct Pages<'a> {
    page_size: usize,
    end: Option<Vec<u8>>,
    page: ScanResponse,
    bytes: usize,
    examined: usize,
    /// The first page goes out whatever it holds.
    begun: bool,
    gone: bool,
    outlet: &'a Outlet<ScanResponse>,
}

impl<'a> Pages<'a> {
    fn new(page_size: usize, end: Option<Vec<u8>>, first: ScanResponse, outlet: &'a Outlet<ScanResponse>) -> Pages<'a> {
        Pages {
            page_size,
            end,
            page: first,
            bytes: 0,
            examined: 0,
            begun: false,
            gone: false,
            outlet,
        }
    }

    /// Takes the next key; an error when no more are wanted.
    fn take(&mut self, key: &[u8], concept: MakeConcept<'_>) -> Result<(), Gone> {
        if self.end.as_deref().is_some_and(|end| key >= end) {
            return Err(Gone);
        }
        if let Some(concept) = concept() {
            let bytes = concept.encoded_len();
            if self.bytes + bytes > PAGE_BYTES_MAX && !self.page.concepts.is_empty() {
                self.send()?;
            }
            self.bytes += bytes;
            self.page.concepts.push(concept);
        }
        self.examined += 1;
        if self.page.concepts.len() == self.page_size || self.examined == PAGE_KEYS_EXAMINED_MAX {
            self.send()?;
        }
        Ok(())
    }

    fn send(&mut self) -> Result<(), Gone> {
        let next = ScanResponse {
            concepts: Vec::with_capacity(self.page.concepts.len()),
            ..ScanResponse::default()
        };
        (self.bytes, self.examined, self.begun) = (0, 0, true);
        let sent = self.outlet.send_blocking(std::mem::replace(&mut self.page, next));
        self.gone |= sent.is_err();
        sent
    }

    /// The last page; the stream ends when the outlet is dropped.
    fn finish(mut self) {
        if !self.gone && (!self.begun || !self.page.concepts.is_empty()) {
            // Whether it was taken makes no difference any more.
            let _last = self.send();
        }
    }
}
