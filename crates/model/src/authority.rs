//! Roles and what each may do. Authentication is elsewhere; this is the table.

use crate::site::word_enum;

word_enum! {
    pub enum Role {
        Admin = "admin",
        Operator = "operator",
        Viewer = "viewer",
        /// Reports certificate events, nothing else.
        Ingest = "ingest",
        /// An edge that fetches what it serves.
        Edge = "edge",
    }
}

word_enum! {
    /// What a request needs.
    pub enum Permission {
        /// Read sites, domains, jobs, certificates without keys.
        Read = "read",
        /// Change sites and domains.
        Write = "write",
        /// Tokens, audit log, key rotation.
        Administer = "administer",
        Report = "report",
        ServeEdge = "serve_edge",
    }
}

impl Role {
    pub fn may(self, permission: Permission) -> bool {
        use Permission::*;
        match self {
            Self::Admin => true,
            Self::Operator => matches!(permission, Read | Write | Report),
            Self::Viewer => permission == Read,
            Self::Ingest => permission == Report,
            Self::Edge => permission == ServeEdge,
        }
    }
}
