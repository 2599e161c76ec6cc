//! What an access control list grants: PVE's built-in roles, inheritance along a path, pools, groups and tokens.
//!
//! Deeper entries replace what is inherited (they are not added to it), a pool adds its roles to its members, and a token with privilege
//! separation holds what both it and its user hold.

use std::collections::{BTreeMap, BTreeSet};

use super::{Acl, File, Identity};

/// All privileges, by the kind of object they are shown under in a ticket's `cap`.
pub(super) const PRIVILEGES: &[(&str, &[&str])] = &[
    (
        "access",
        &[
            "Group.Allocate",
            "Permissions.Modify",
            "Realm.Allocate",
            "Realm.AllocateUser",
            "User.Modify",
        ],
    ),
    (
        "dc",
        &[
            "SDN.Allocate",
            "SDN.Audit",
            "SDN.Use",
            "Sys.Audit",
            "Sys.Modify",
        ],
    ),
    (
        "mapping",
        &[
            "Mapping.Audit",
            "Mapping.Modify",
            "Mapping.Use",
            "Permissions.Modify",
        ],
    ),
    (
        "nodes",
        &[
            "Permissions.Modify",
            "Sys.AccessNetwork",
            "Sys.Audit",
            "Sys.Console",
            "Sys.Incoming",
            "Sys.Modify",
            "Sys.PowerMgmt",
            "Sys.Syslog",
        ],
    ),
    ("pool", &["Pool.Allocate", "Pool.Audit"]),
    (
        "sdn",
        &["Permissions.Modify", "SDN.Allocate", "SDN.Audit", "SDN.Use"],
    ),
    (
        "storage",
        &[
            "Datastore.Allocate",
            "Datastore.AllocateSpace",
            "Datastore.AllocateTemplate",
            "Datastore.Audit",
            "Permissions.Modify",
        ],
    ),
    (
        "vms",
        &[
            "Permissions.Modify",
            "VM.Allocate",
            "VM.Audit",
            "VM.Backup",
            "VM.Clone",
            "VM.Config.CDROM",
            "VM.Config.CPU",
            "VM.Config.Cloudinit",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.Console",
            "VM.GuestAgent.Audit",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.GuestAgent.Unrestricted",
            "VM.Migrate",
            "VM.PowerMgmt",
            "VM.Replicate",
            "VM.Snapshot",
            "VM.Snapshot.Rollback",
        ],
    ),
];

/// Names of privileges.
type Names = &'static [&'static str];

/// A kind of object with the privileges of administrators, users and auditors.
type Category = (&'static str, Names, Names, Names);

/// The privileges of PVE's built-in roles, by category: for administrators, for users, for auditors.
const CATEGORIES: &[Category] = &[
    (
        "VM",
        &[
            "VM.Allocate",
            "VM.Clone",
            "VM.Config.CPU",
            "VM.Config.Disk",
            "VM.Config.HWType",
            "VM.Config.Memory",
            "VM.Config.Network",
            "VM.Config.Options",
            "VM.GuestAgent.Unrestricted",
            "VM.Migrate",
            "VM.Replicate",
            "VM.Snapshot",
            "VM.Snapshot.Rollback",
        ],
        &[
            "VM.Backup",
            "VM.Config.CDROM",
            "VM.Config.Cloudinit",
            "VM.Console",
            "VM.GuestAgent.FileRead",
            "VM.GuestAgent.FileSystemMgmt",
            "VM.GuestAgent.FileWrite",
            "VM.PowerMgmt",
        ],
        &["VM.Audit", "VM.GuestAgent.Audit"],
    ),
    ("Sys", &["Sys.Console", "Sys.Syslog"], &[], &["Sys.Audit"]),
    (
        "Datastore",
        &["Datastore.Allocate", "Datastore.AllocateTemplate"],
        &["Datastore.AllocateSpace"],
        &["Datastore.Audit"],
    ),
    ("SDN", &["SDN.Allocate"], &["SDN.Use"], &["SDN.Audit"]),
    (
        "User",
        &["Group.Allocate", "Realm.AllocateUser", "User.Modify"],
        &[],
        &[],
    ),
    ("Pool", &["Pool.Allocate"], &["Pool.Audit"], &["Pool.Audit"]),
    (
        "Mapping",
        &["Mapping.Modify"],
        &["Mapping.Use"],
        &["Mapping.Audit"],
    ),
];

/// Privileges, each with whether it is handed on to deeper paths.
pub(super) type Held = BTreeMap<String, bool>;

/// All privileges there are.
fn all() -> BTreeSet<&'static str> {
    PRIVILEGES
        .iter()
        .flat_map(|(_, names)| names.iter().copied())
        .collect()
}

/// The privileges of a built-in role.
fn built_in(role: &str) -> Option<BTreeSet<&'static str>> {
    let collect = |pick: fn(&Category) -> Vec<&'static str>| {
        CATEGORIES.iter().flat_map(pick).collect::<BTreeSet<_>>()
    };
    Some(match role {
        "Administrator" => all(),
        "NoAccess" => BTreeSet::new(),
        "PVEAdmin" => {
            let mut found = collect(|(_, admin, user, audit)| [*admin, *user, *audit].concat());
            found.remove("Mapping.Modify");
            found
        }
        "PVEAuditor" => collect(|(.., audit)| audit.to_vec()),
        "PVETemplateUser" => BTreeSet::from(["VM.Audit", "VM.Clone"]),
        _ => {
            let rest = role.strip_prefix("PVE")?;
            let admin = rest.strip_suffix("Admin");
            let name = admin.or_else(|| rest.strip_suffix("User"))?;
            let (_, of_admin, of_user, of_audit) =
                CATEGORIES.iter().find(|(known, ..)| *known == name)?;
            if admin.is_none() && of_user.is_empty() {
                return None;
            }
            let more: &[&str] = if admin.is_some() { of_admin } else { &[] };
            [more, of_user, of_audit].concat().into_iter().collect()
        }
    })
}

impl File {
    /// What an identity may do at a path. `pools` are the pools with their VMs.
    pub(super) fn held(
        &self,
        identity: &Identity,
        path: &str,
        pools: &BTreeMap<String, Vec<u32>>,
    ) -> Held {
        let user = if identity.user == "root@pam" {
            all()
                .into_iter()
                .map(|name| (name.to_owned(), true))
                .collect()
        } else {
            self.granted(&identity.user, path, pools)
        };
        match &identity.token {
            None => user,
            Some(_) => match self.tokens.get(&identity.id()) {
                Some(token) if !token.privsep => user,
                Some(_) => {
                    let own = self.granted(&identity.id(), path, pools);
                    own.into_iter()
                        .filter_map(|(name, on)| {
                            let of_user = *user.get(&name)?;
                            Some((name, on && of_user))
                        })
                        .collect()
                }
                None => Held::new(),
            },
        }
    }

    /// The paths at which an identity may hold something: where there are entries, the members of pools, and the top ones.
    pub(super) fn paths(&self, pools: &BTreeMap<String, Vec<u32>>) -> BTreeSet<String> {
        let top = [
            "/",
            "/access",
            "/access/groups",
            "/nodes",
            "/pool",
            "/sdn",
            "/storage",
            "/vms",
        ];
        let mut paths: BTreeSet<String> = top.map(str::to_owned).into();
        for acl in &self.acl {
            // Every folder above an entry is in PVE's tree too.
            paths.extend(prefixes(&acl.path));
        }
        paths.extend(pools.values().flatten().map(|vmid| format!("/vms/{vmid}")));
        paths
    }

    fn granted(&self, ugid: &str, path: &str, pools: &BTreeMap<String, Vec<u32>>) -> Held {
        let mut roles = self.roles(ugid, path);
        let member = path
            .strip_prefix("/vms/")
            .and_then(|vmid| vmid.parse().ok());
        if let Some(vmid) = member
            && !roles.contains_key("NoAccess")
        {
            for (pool, _) in pools.iter().filter(|(_, members)| members.contains(&vmid)) {
                let of_pool = self.roles(ugid, &format!("/pool/{pool}"));
                if of_pool.contains_key("NoAccess") {
                    roles = BTreeMap::from([("NoAccess".to_owned(), false)]);
                    break;
                }
                // Added to what the path itself grants, and not handed on.
                for role in of_pool.into_keys() {
                    roles.entry(role).or_insert(false);
                }
            }
        }
        let mut held = Held::new();
        for (role, propagate) in &roles {
            for name in self.privileges_of(role) {
                *held.entry(name).or_default() |= *propagate;
            }
        }
        held
    }

    fn privileges_of(&self, role: &str) -> Vec<String> {
        match built_in(role) {
            Some(names) => names.into_iter().map(str::to_owned).collect(),
            None => self.roles.get(role).cloned().unwrap_or_default(),
        }
    }

    /// The roles at a path: those of the deepest entries, for the user itself rather than for its groups.
    fn roles(&self, ugid: &str, path: &str) -> BTreeMap<String, bool> {
        let mut roles = BTreeMap::new();
        let all = prefixes(path);
        for (n, prefix) in all.iter().enumerate() {
            let last = n + 1 == all.len();
            let here = |acl: &&Acl| acl.path == *prefix && (last || acl.propagate);
            let entries = |wanted: &dyn Fn(&str) -> bool| -> BTreeMap<String, bool> {
                let entries = self.acl.iter().filter(here).filter(|acl| wanted(&acl.ugid));
                entries
                    .map(|acl| (acl.role.clone(), acl.propagate))
                    .collect()
            };
            let mut found = entries(&|name| name == ugid);
            if found.is_empty() {
                found = entries(&|name| {
                    let members = name
                        .strip_prefix('@')
                        .and_then(|group| self.groups.get(group));
                    members.is_some_and(|members| members.iter().any(|member| member == ugid))
                });
            }
            if !found.is_empty() {
                roles = found;
            }
        }
        match roles.get("NoAccess") {
            Some(on) => BTreeMap::from([("NoAccess".to_owned(), *on)]),
            None => roles,
        }
    }
}

/// `/`, `/vms`, `/vms/100` of `/vms/100`.
fn prefixes(path: &str) -> Vec<String> {
    let mut found = vec!["/".to_owned()];
    let mut so_far = String::new();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        so_far = format!("{so_far}/{part}");
        found.push(so_far.clone());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Token;
    use super::*;

    fn file(acl: &[(&str, &str, &str)]) -> File {
        File {
            acl: acl
                .iter()
                .map(|(path, ugid, role)| Acl {
                    path: (*path).into(),
                    ugid: (*ugid).into(),
                    role: (*role).into(),
                    propagate: true,
                })
                .collect(),
            groups: BTreeMap::from([("ops".into(), vec!["g@pve".into()])]),
            tokens: BTreeMap::from([(
                "u@pve!t".into(),
                Token {
                    secret_sha256: String::new(),
                    expire: 0,
                    privsep: true,
                },
            )]),
            ..File::default()
        }
    }

    fn may(file: &File, id: &str, path: &str, name: &str) -> bool {
        let (user, token) = match id.split_once('!') {
            Some((user, token)) => (user, Some(token.to_owned())),
            None => (id, None),
        };
        let identity = Identity {
            user: user.into(),
            token,
        };
        let pools = BTreeMap::from([("p".to_owned(), vec![7])]);
        file.held(&identity, path, &pools).contains_key(name)
    }

    #[test]
    fn on_pve_an_acl_on_a_deeper_path_replaces_what_is_inherited() {
        let file = file(&[
            ("/", "u@pve", "PVEVMAdmin"),
            ("/vms/100", "u@pve", "PVEVMUser"),
            ("/vms/101", "u@pve", "NoAccess"),
        ]);
        assert!(may(&file, "u@pve", "/vms/99", "VM.Config.Disk"));
        assert!(!may(&file, "u@pve", "/vms/100", "VM.Config.Disk"));
        assert!(may(&file, "u@pve", "/vms/100", "VM.PowerMgmt"));
        assert!(!may(&file, "u@pve", "/vms/101", "VM.Audit"));
    }

    #[test]
    fn a_token_holds_what_it_and_its_user_hold() {
        let file = file(&[
            ("/", "u@pve", "PVEVMUser"),
            ("/vms", "u@pve!t", "PVEVMAdmin"),
        ]);
        assert!(may(&file, "u@pve!t", "/vms/1", "VM.PowerMgmt"));
        assert!(!may(&file, "u@pve!t", "/vms/1", "VM.Allocate"));
        assert!(!may(&file, "u@pve!t", "/nodes", "VM.PowerMgmt"));
    }

    #[test]
    fn pools_add_to_what_a_path_grants_and_groups_count_where_the_user_has_no_entry() {
        let file = file(&[
            ("/pool/p", "u@pve", "PVEVMAdmin"),
            ("/vms", "u@pve", "PVEDatastoreUser"),
            ("/", "@ops", "PVEAuditor"),
            ("/vms/7", "g@pve", "PVEVMUser"),
        ]);
        assert!(may(&file, "u@pve", "/vms/7", "VM.Allocate"));
        assert!(may(&file, "u@pve", "/vms/7", "Datastore.Audit"));
        assert!(!may(&file, "u@pve", "/vms/8", "VM.Allocate"));
        assert!(may(&file, "g@pve", "/vms/8", "VM.Audit"));
        assert!(!may(&file, "g@pve", "/vms/8", "VM.PowerMgmt"));
        assert!(may(&file, "g@pve", "/vms/7", "VM.PowerMgmt"));
    }

    #[test]
    fn built_in_roles() {
        assert!(
            built_in("PVEAdmin").is_some_and(
                |role| !role.contains("Mapping.Modify") && !role.contains("Sys.Modify")
            )
        );
        assert!(built_in("PVESysUser").is_none());
        assert!(built_in("PVEDatastoreUser").is_some_and(|role| role.len() == 2));
        assert!(built_in("Own").is_none());
    }
}
