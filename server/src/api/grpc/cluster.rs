//! `continuum.v1.Cluster`: who belongs to it. Every change is a command to the sequencer; raft's members follow by themselves.

use std::{collections::BTreeMap, time::Duration};

use engine::{
    CommitError,
    clock::Timestamp,
    image,
    ledger::{self, Command, Member, MemberChange, MemberRefusal, Outcome, Refusal, Role},
};
use proto::v1::{
    ClusterMember, ClusterStatusRequest, ClusterStatusResponse, DigestRequest, DigestResponse, HandOverRequest,
    HandOverResponse, InitClusterRequest, InitClusterResponse, InviteRequest, InviteResponse, MemberRole,
    RemoveMemberRequest, RemoveMemberResponse, SetRoleRequest, SetRoleResponse, cluster_client::ClusterClient,
    cluster_server::Cluster,
};
use tonic::{Code, Request, Response, Status};

use super::{Components, admin::time_of, status::Refused};
use crate::{
    consensus::View,
    formation::Token,
    runtime::{entropy, tasks},
};

/// A token is good for so long unless said otherwise.
const VALID_S: u32 = 3_600;
/// And for no longer than a week.
const VALID_S_MAX: u32 = 7 * 86_400;
/// Time for another to lead.
const HAND_OVER_MAX: Duration = Duration::from_secs(5);

/// The service; clones share what it stands on.
#[derive(Clone)]
pub(super) struct Service {
    components: Components,
}

impl Service {
    pub(super) fn new(components: Components) -> Service {
        Service { components }
    }

    async fn change(&self, change: MemberChange) -> Result<(), Refused> {
        match self
            .components
            .sequencer
            .propose(Command::Members(change), None)
            .await?
            .outcome
        {
            Outcome::Done => Ok(()),
            Outcome::Refused(refusal) => Err(Refused::Registry(refusal)),
            _ => Err(Refused::Confused),
        }
    }

    fn members(&self) -> Result<Vec<Member>, Refused> {
        Ok(ledger::members(self.components.engine.view())?)
    }

    fn status_checked(&self) -> Result<ClusterStatusResponse, Refused> {
        let view = self.components.sequencer.view();
        let members = members(&view, self.members()?);
        let leader = view.members.iter().find(|seen| Some(seen.id) == view.leader);
        let engine = &self.components.engine;
        Ok(ClusterStatusResponse {
            cluster: engine::backup::hex(&engine.cluster()),
            node: engine.actor().node.to_string(),
            leader: leader.map(|leader| leader.name.clone()).unwrap_or_default(),
            term: view.term,
            committed: view.committed.unwrap_or_default(),
            applied: view.applied.unwrap_or_default(),
            trouble: view.trouble.unwrap_or_default(),
            members,
        })
    }

    /// The members; none of a node that stands alone.
    fn registered(&self) -> Result<Vec<Member>, Refused> {
        let members = self.members()?;
        if members.is_empty() && self.components.sequencer.view().members.len() > 1 {
            // Nodes that have formed a cluster together register each other as soon as one of them leads.
            let why = "the cluster has just been formed and its members are not registered yet".to_owned();
            return Err(Refused::Commit(CommitError::Unavailable(why)));
        }
        Ok(members)
    }

    async fn init_checked(&self) -> Result<InitClusterResponse, Refused> {
        let address = self.address()?;
        self.registered()?;
        let found = MemberChange::Found {
            name: self.components.engine.actor().node.to_string(),
            voter: self.components.sequencer.view().id,
            address: address.clone(),
        };
        self.change(found).await?;
        Ok(InitClusterResponse { address })
    }

    /// Where others reach this node.
    fn address(&self) -> Result<String, Refused> {
        let address = self.components.reach.address.clone();
        address.ok_or_else(|| Refused::Peer {
            code: Code::FailedPrecondition,
            reason: "ADDRESS_UNKNOWN",
            why: "others cannot be told where this node is reached: start it with --advertise-address HOST:PORT"
                .to_owned(),
        })
    }

    async fn invite_checked(&self, request: InviteRequest) -> Result<InviteResponse, Refused> {
        let role = role(request.role)?.unwrap_or(Role::Voter);
        let valid_s = match request.valid_s {
            0 => VALID_S,
            valid_s if valid_s <= VALID_S_MAX => valid_s,
            _ => {
                let rule = format!("a token is good for at most {VALID_S_MAX} s");
                return Err(Refused::field("valid_s", "VALID_TOO_LONG", rule));
            }
        };
        // Whoever was just let in knows nobody yet.
        if let Some(why) = self.components.sequencer.view().trouble {
            return Err(Refused::Commit(CommitError::Unavailable(why)));
        }
        let members = self.registered()?;
        if members.is_empty() {
            return Err(Refused::Peer {
                code: Code::FailedPrecondition,
                reason: "CLUSTER_NOT_INITIALISED",
                why: "this node stands alone: ready it for others with `continuum-admin cluster init` first".to_owned(),
            });
        }
        let expires = Timestamp(self.components.clock.now().0 + u64::from(valid_s) * 1_000_000);
        let mut secret = [0; 32];
        for chunk in secret.chunks_mut(8) {
            chunk.copy_from_slice(&entropy::bits().to_le_bytes());
        }
        let token = Token {
            cluster: self.components.engine.cluster(),
            authority: self.components.reach.authority,
            secret,
            seeds: members
                .into_iter()
                .map(|member| (member.name, member.address))
                .collect(),
            expires,
        };
        let invite = MemberChange::Invite {
            token: token.sum(),
            role,
            expires,
            replaces: Some(request.replaces).filter(|name| !name.is_empty()),
        };
        self.change(invite).await?;
        Ok(InviteResponse {
            token: token.to_string(),
            expires: Some(time_of(expires)),
        })
    }

    async fn digest_checked(&self) -> Result<DigestResponse, Refused> {
        let engine = self.components.engine.clone();
        let node = engine.actor().node.to_string();
        let digest = tasks::blocking(move || engine.image_digest()).await;
        let digest = digest.ok_or(Refused::Confused)?.map_err(|error| match error {
            image::Error::Store(error) => Refused::from(error),
            error => Refused::Commit(CommitError::Unavailable(error.to_string())),
        })?;
        Ok(DigestResponse {
            node,
            applied: digest.applied.last.map_or(0, |last| last.index),
            part: digest.applied.part,
            sum: digest.sum.to_vec(),
            rows: digest.rows,
            concepts: digest.concepts,
        })
    }

    async fn hand_over_checked(&self, request: HandOverRequest) -> Result<(), Status> {
        let unavailable = |why| {
            Status::from(Refused::Peer {
                code: Code::Unavailable,
                reason: "NO_QUORUM",
                why,
            })
        };
        let sequencer = &self.components.sequencer;
        if let Some(channel) = sequencer.at_leader().map_err(unavailable)? {
            ClusterClient::new(channel).hand_over(request).await?;
            return Ok(());
        }
        let view = sequencer.view();
        let to = view.members.iter().find(|seen| seen.name == request.name);
        let Some(to) = to.filter(|to| to.votes) else {
            let refusal = MemberRefusal::MemberUnknown { name: request.name };
            return Err(Refused::Registry(Refusal::Members(refusal)).into());
        };
        if to.id == view.id || sequencer.hand_over(to.id, HAND_OVER_MAX).await.map_err(unavailable)? {
            return Ok(());
        }
        Err(unavailable(format!(
            "`{}` did not come to lead in time: see whether it can be reached",
            request.name
        )))
    }
}

fn members(view: &View, wanted: Vec<Member>) -> Vec<ClusterMember> {
    let mut members: BTreeMap<u64, ClusterMember> = view
        .members
        .iter()
        .map(|seen| {
            let member = ClusterMember {
                name: seen.name.clone(),
                address: seen.address.clone(),
                id: format!("{:016x}", seen.id),
                role: MemberRole::Unspecified.into(),
                votes: seen.votes,
                known: true,
                matched: seen.matched,
                since: None,
            };
            (seen.id, member)
        })
        .collect();
    for member in wanted {
        let shown = members.entry(member.voter).or_insert_with(|| ClusterMember {
            id: format!("{:016x}", member.voter),
            ..ClusterMember::default()
        });
        shown.name = member.name;
        shown.address = member.address;
        let role = match member.role {
            Role::Voter => MemberRole::Voter,
            Role::Learner => MemberRole::Learner,
        };
        shown.role = role.into();
        shown.since = Some(time_of(member.since));
    }
    let mut members: Vec<ClusterMember> = members.into_values().collect();
    members.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
    members
}

fn role(number: i32) -> Result<Option<Role>, Refused> {
    match MemberRole::try_from(number) {
        Ok(MemberRole::Unspecified) => Ok(None),
        Ok(MemberRole::Voter) => Ok(Some(Role::Voter)),
        Ok(MemberRole::Learner) => Ok(Some(Role::Learner)),
        Err(_) => Err(Refused::field(
            "role",
            "ROLE_UNKNOWN",
            format!("{number} is none that this node knows"),
        )),
    }
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn status(&self, _: Request<ClusterStatusRequest>) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(self.status_checked()?))
    }

    async fn init(&self, _: Request<InitClusterRequest>) -> Result<Response<InitClusterResponse>, Status> {
        Ok(Response::new(self.init_checked().await?))
    }

    async fn invite(&self, request: Request<InviteRequest>) -> Result<Response<InviteResponse>, Status> {
        Ok(Response::new(self.invite_checked(request.into_inner()).await?))
    }

    async fn set_role(&self, request: Request<SetRoleRequest>) -> Result<Response<SetRoleResponse>, Status> {
        let SetRoleRequest { name, role: number } = request.into_inner();
        let missing = || Refused::field("role", "ROLE_MISSING", "say as what it should be a member");
        let role = role(number)?.ok_or_else(missing)?;
        self.change(MemberChange::SetRole { name, role }).await?;
        Ok(Response::new(SetRoleResponse {}))
    }

    async fn remove(&self, request: Request<RemoveMemberRequest>) -> Result<Response<RemoveMemberResponse>, Status> {
        let RemoveMemberRequest { name } = request.into_inner();
        self.change(MemberChange::Remove { name }).await?;
        Ok(Response::new(RemoveMemberResponse {}))
    }

    async fn hand_over(&self, request: Request<HandOverRequest>) -> Result<Response<HandOverResponse>, Status> {
        self.hand_over_checked(request.into_inner()).await?;
        Ok(Response::new(HandOverResponse {}))
    }

    async fn digest(&self, _: Request<DigestRequest>) -> Result<Response<DigestResponse>, Status> {
        Ok(Response::new(self.digest_checked().await?))
    }
}
