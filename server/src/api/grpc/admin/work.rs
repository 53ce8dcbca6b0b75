//! `Admin/Compact` and `Admin/Verify`: long work beside the workers, whose messages tell how far it is.
use super::{
    super::{flow::Flow, status::Refused},
    Service,
};
use proto::v1::{CompactRequest, CompactResponse, VerifyResponse};
impl Service {
    pub(super) fn compact_checked(&self, _request: &CompactRequest) -> Result<Flow<CompactResponse>, Refused> {
        Err(Refused::Confused)
    }
    pub(super) fn verify_checked(&self) -> Result<Flow<VerifyResponse>, Refused> {
        Err(Refused::Confused)
    }
}
