//! The one table that says who may call what. An RPC without a row is denied.
//!
//! A new RPC needs a row here and a `Roles:` sentence in its proto comment; the tests below hold the three together.
//! Paths are compared byte by byte: there is no second spelling of an RPC.

use crate::domain::Role::{self, Admin, Viewer, Worker};

/// Who may call an RPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Everybody, without a token.
    Anonymous,
    /// Callers with one of these roles.
    Roles(&'static [Role]),
}

/// A part of the table, with what the settings turn on: each listener has its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// RPCs.
    Rpcs {
        /// Whether gRPC reflection may be called, by everybody.
        reflection: bool,
    },
    /// Pages of the HTTP listener.
    Pages {
        /// Whether everybody may see the metrics.
        metrics_anonymous: bool,
    },
}

const ADMINS: Access = Access::Roles(&[Admin]);
const AUDITORS: Access = Access::Roles(&[Admin, Viewer]);
const READERS: Access = Access::Roles(&[Admin, Worker, Viewer]);
/// Who may tell of use.
const USERS: Access = Access::Roles(&[Admin, Worker]);

/// Who runs what it is told.
const WORKERS: Access = Access::Roles(&[Worker]);

const ROWS: &[(&str, Access)] = &[
    ("/signalbox.v1.ConfigService/GetResource", READERS),
    ("/signalbox.v1.ConfigService/ListResources", READERS),
    ("/signalbox.v1.ConfigService/CreateResource", ADMINS),
    ("/signalbox.v1.ConfigService/UpdateResource", ADMINS),
    ("/signalbox.v1.ConfigService/DeleteResource", ADMINS),
    ("/signalbox.v1.ConfigService/BatchWrite", ADMINS),
    ("/signalbox.v1.ConfigService/ListHistory", AUDITORS),
    ("/signalbox.v1.ConfigService/DiffRevisions", AUDITORS),
    ("/signalbox.v1.ConfigService/RollbackResource", ADMINS),
    ("/signalbox.v1.ConfigService/RollbackAll", ADMINS),
    ("/signalbox.v1.ConfigService/WatchConfig", READERS),
    ("/signalbox.v1.ProviderService/RenderRequest", READERS),
    ("/signalbox.v1.ProviderService/GetActiveProvider", READERS),
    ("/signalbox.v1.ProviderService/SwitchActiveProvider", ADMINS),
    ("/signalbox.v1.ProviderService/GetDefaultProvider", READERS),
    ("/signalbox.v1.ProviderService/SetDefaultProvider", ADMINS),
    ("/signalbox.v1.ProviderService/TestProvider", ADMINS),
    ("/signalbox.v1.ProviderService/DiscoverModels", ADMINS),
    ("/signalbox.v1.ApiKeyService/RotateApiKey", ADMINS),
    ("/signalbox.v1.ApiKeyService/GetActiveApiKey", READERS),
    ("/signalbox.v1.ApiKeyService/RecordApiKeyUsage", USERS),
    ("/signalbox.v1.DatabaseService/TestDatabase", ADMINS),
    ("/signalbox.v1.SettingService/ResolveSettings", READERS),
    ("/signalbox.v1.SettingService/ExplainSetting", READERS),
    ("/signalbox.v1.FleetService/ReportApplied", WORKERS),
    ("/signalbox.v1.FleetService/ListWorkers", AUDITORS),
    ("/signalbox.v1.FleetService/GetConvergence", AUDITORS),
    ("/signalbox.v1.FleetService/WaitForConvergence", AUDITORS),
    ("/signalbox.v1.AdminService/GetStatus", READERS),
    ("/signalbox.v1.AdminService/CreateToken", ADMINS),
    ("/signalbox.v1.AdminService/RevokeToken", ADMINS),
    ("/signalbox.v1.AdminService/CompactLog", ADMINS),
    ("/signalbox.v1.AdminService/RaiseFeatureLevel", ADMINS),
    ("/signalbox.v1.AdminService/VerifyLog", ADMINS),
    ("/signalbox.v1.AdminService/ImportConfig", ADMINS),
    ("/signalbox.v1.AdminService/ExportConfig", ADMINS),
    ("/grpc.health.v1.Health/Check", Access::Anonymous),
    ("/grpc.health.v1.Health/Watch", Access::Anonymous),
];

const REFLECTION_ROWS: &[(&str, Access)] = &[
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Anonymous),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Access::Anonymous),
];

/// What the pages are called.
pub mod pages {
    /// Whether the process answers.
    pub const LIVEZ: &str = "/livez";
    /// Whether it takes calls.
    pub const READYZ: &str = "/readyz";
    /// How it is, in numbers.
    pub const METRICS: &str = "/metrics";
    /// How it is, for people.
    pub const DIAGNOSTICS: &str = "/diagnostics";
    /// What the API over HTTP takes and answers.
    pub const OPENAPI: &str = "/openapi.json";
}

const PAGE_ROWS: &[(&str, Access)] = &[
    (pages::LIVEZ, Access::Anonymous),
    (pages::READYZ, Access::Anonymous),
    (pages::METRICS, Access::Roles(&[Admin, Viewer])),
    // As `GetStatus`, which it shows.
    (pages::DIAGNOSTICS, READERS),
    // The same everywhere, and in everybody's hands: it tells nothing of this server.
    (pages::OPENAPI, Access::Anonymous),
];
const OPEN_METRICS_ROWS: &[(&str, Access)] = &[(pages::METRICS, Access::Anonymous)];

impl Policy {
    /// Who may call what is at this path; `None`: nobody.
    #[must_use]
    pub fn access(self, path: &str) -> Option<Access> {
        self.rows().find(|(row, _)| *row == path).map(|(_, access)| access)
    }

    /// Everything that somebody may call.
    pub fn paths(self) -> impl Iterator<Item = &'static str> {
        self.rows().map(|(path, _)| path)
    }

    /// The rows that hold; the first one of a path counts.
    fn rows(self) -> impl Iterator<Item = (&'static str, Access)> {
        let (first, others) = match self {
            Self::Rpcs { reflection: true } => (REFLECTION_ROWS, ROWS),
            Self::Rpcs { reflection: false } => (&[][..], ROWS),
            Self::Pages { metrics_anonymous: true } => (OPEN_METRICS_ROWS, PAGE_ROWS),
            Self::Pages { metrics_anonymous: false } => (&[][..], PAGE_ROWS),
        };
        first.iter().chain(others).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost_reflect::{DescriptorPool, MethodDescriptor};

    use super::*;
    use crate::proto::DESCRIPTOR_POOL;

    const RPCS: Policy = Policy::Rpcs { reflection: false };

    fn methods(pool: &DescriptorPool) -> Vec<MethodDescriptor> {
        pool.services().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    fn path(method: &MethodDescriptor) -> String {
        format!("/{}/{}", method.parent_service().full_name(), method.name())
    }

    #[test]
    fn every_method_has_a_row() {
        for method in methods(&DESCRIPTOR_POOL) {
            assert!(RPCS.access(&path(&method)).is_some(), "{} has no row", path(&method));
        }
    }

    #[test]
    fn every_row_names_a_method_once() {
        let decode = |set: &[u8]| DescriptorPool::decode(set).unwrap();
        let pools = [
            DESCRIPTOR_POOL.clone(),
            decode(tonic_health::pb::FILE_DESCRIPTOR_SET),
            decode(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET),
            decode(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET),
        ];
        let known: BTreeSet<String> = pools.iter().flat_map(methods).map(|method| path(&method)).collect();
        let rows: Vec<&str> = ROWS.iter().chain(REFLECTION_ROWS).map(|(row, _)| *row).collect();
        for row in &rows {
            assert!(known.contains(*row), "{row} names no method");
        }
        assert_eq!(rows.iter().collect::<BTreeSet<_>>().len(), rows.len(), "a row stands twice");
    }

    /// The comment in front of a method, from the source info that `build.rs` keeps. The path of a method in a file
    /// is field 6 (service), index, field 2 (method), index: see `descriptor.proto`.
    fn comment(method: &MethodDescriptor) -> String {
        let service = method.parent_service();
        let file = service.parent_file();
        let place = file.services().position(|each| each == *service).unwrap();
        let path = [6, place as i32, 2, method.index() as i32];
        let info = file.file_descriptor_proto().source_code_info.as_ref().unwrap();
        let location = info.location.iter().find(|location| location.path == path).unwrap();
        location.leading_comments().split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_agree_with_the_comments() {
        for method in methods(&DESCRIPTOR_POOL) {
            let comment = comment(&method);
            let (_, tail) = comment.split_once("Roles: ").unwrap_or_else(|| panic!("{}", path(&method)));
            let sentence = tail.split_once('.').map_or(tail, |(sentence, _)| sentence);
            let words = sentence.split(|each: char| !each.is_ascii_alphabetic());
            let said: BTreeSet<Role> = words.filter_map(Role::parse).collect();
            let Some(Access::Roles(row)) = RPCS.access(&path(&method)) else {
                panic!("{} is not for everybody", path(&method));
            };
            assert_eq!(said, row.iter().copied().collect(), "{}: {sentence}", path(&method));
        }
    }

    #[test]
    fn reflection_only_where_it_is_on() {
        for (row, _) in REFLECTION_ROWS {
            assert_eq!(RPCS.access(row), None);
            assert_eq!(Policy::Rpcs { reflection: true }.access(row), Some(Access::Anonymous));
        }
    }

    #[test]
    fn pages_and_rpcs_have_tables_of_their_own() {
        let [closed, open] = [false, true].map(|metrics_anonymous| Policy::Pages { metrics_anonymous });
        assert_eq!(closed.access(pages::METRICS), Some(Access::Roles(&[Admin, Viewer])));
        assert_eq!(open.access(pages::METRICS), Some(Access::Anonymous));
        let status = RPCS.access("/signalbox.v1.AdminService/GetStatus");
        assert!([closed, open].map(|policy| policy.access(pages::DIAGNOSTICS)) == [status; 2]);
        for policy in [closed, open] {
            assert_eq!(policy.access(pages::READYZ), Some(Access::Anonymous));
            assert!(RPCS.paths().all(|path| policy.access(path).is_none()));
            assert!(policy.paths().all(|path| RPCS.access(path).is_none()));
        }
    }
}
