//! `Admin/ImportPool`: the members and concepts of another system's pool.
use super::{super::status::Refused, Service};
use proto::v1::{ImportPoolRequest, ImportPoolResponse};
impl Service {
    #[expect(clippy::unused_async)]
    pub(super) async fn import_pool_checked(&self, _request: ImportPoolRequest) -> Result<ImportPoolResponse, Refused> {
        Err(Refused::Confused)
    }
}
