//! Layers, unknown keys and what does not go together, as tables.

use super::*;

type Pairs<'a> = &'a [(&'a str, &'a str)];

fn load(flags: Pairs<'_>, variables: Pairs<'_>, file: &str) -> Result<Settings, String> {
    let values = flags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let variables = variables.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let given = Given { config: None, values };
    Settings::from_parts(&given, &variables, Path::new("certwright.toml"), file).map_err(|error| error.to_string())
}

#[test]
fn every_default_can_be_read() {
    let settings = load(&[], &[], "").unwrap();
    assert_eq!(settings.table.api.to_string(), "127.0.0.1:9440");
    assert_eq!(settings.table.base_domain.as_str(), "localhost");
    assert_eq!(settings.table.probe_timeout, SignedDuration::from_secs(8));
    assert!(settings.table.database_url.is_none() && settings.table.edge_addresses.is_empty());
    assert_eq!(settings.issuers.iter().map(|issuer| issuer.name.as_str()).collect::<Vec<_>>(), ["internal"]);
}

#[test]
fn the_command_line_is_over_the_environment_and_that_over_the_file() {
    let file = "api = \"127.0.0.1:1\"\nhttp = \"127.0.0.1:1\"\nhttps = \"127.0.0.1:1\"";
    let variables = [("CERTWRIGHT_API", "127.0.0.1:2"), ("CERTWRIGHT_HTTP", "127.0.0.1:2"), ("CERTWRIGHT_METRICS", "")];
    let table = load(&[("api", "127.0.0.1:3")], &variables, file).unwrap().table;
    assert_eq!((table.api.port(), table.http.port(), table.https.port(), table.metrics.port()), (3, 2, 1, 9465));
}

#[test]
fn documented_variables_without_our_prefix_are_read_too() {
    let variables = [
        ("DATABASE_URL", "postgres://db/certwright"),
        ("CERT_METRICS_PORT", "9999"),
        ("TLS_PROBE_TIMEOUT_SECONDS", "3"),
        ("CERT_EXPIRY_WARN_DAYS", "14"),
        ("CERT_PROBE_FALLBACK_ENABLED", "false"),
    ];
    let table = load(&[], &variables, "").unwrap().table;
    assert_eq!(table.database_url.as_deref(), Some("postgres://db/certwright"));
    assert_eq!(table.metrics.to_string(), "127.0.0.1:9999");
    assert_eq!((table.probe_timeout, table.expiry_warn_days, table.probing), (SignedDuration::from_secs(3), 14, false));
    let own = load(&[], &[("DATABASE_URL", "sqlite:a"), ("CERTWRIGHT_DATABASE_URL", "sqlite:b")], "").unwrap();
    assert_eq!(own.table.database_url.as_deref(), Some("sqlite:b"));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    #[rustfmt::skip]
    let table: &[(Pairs<'_>, Pairs<'_>, &str, &str)] = &[
        (&[], &[], "base-domain = \"x\"",                       "certwright.toml: there is no setting `base-domain`; did you mean `base_domain`?"),
        (&[], &[], "nonsense_entirely = 1",                     "certwright.toml: there is no setting `nonsense_entirely`"),
        (&[("htps", "1")], &[], "",                             "the command line: there is no setting `htps`; did you mean `https`?"),
        (&[], &[("CERTWRIGHT_API", "here")], "",                "`api` (CERTWRIGHT_API): `here` is not an address with a port"),
        (&[], &[], "probe_every = \"soon\"",                    "`probe_every` (certwright.toml): `soon` is not a duration"),
        (&[], &[], "strict_ownership = \"maybe\"",              "neither `true` nor `false`"),
        (&[], &[], "api = { a = 1 }",                           "`api` (certwright.toml): a text, a number"),
        (&[], &[], "api = ",                                    "certwright.toml is not TOML"),
        (&[], &[], "kek_file = \"a\"\nkek_command = [\"b\"]",   "`kek_file` and `kek_command` are both set"),
        (&[], &[], "lease = \"10s\"",                           "`issue_deadline` has to be shorter than `lease`"),
        (&[], &[], "base_domain = \"*.example.com\"",           "`base_domain` (certwright.toml): `*.example.com` is not a domain"),
        (&[], &[], "in_flight = 0",                             "`in_flight` has to be at least 1"),
        (&[], &[], "issuers = [\"intrenal\"]",                  "no issuer `intrenal` is configured; did you mean `internal`?"),
        (&[], &[], "[[issuer]]\nname = \"a\"\ndirektory = \"x\"", "there is no setting `direktory`; did you mean `directory`?"),
        (&[], &[], "[[issuer]]\nname = \"a\"",                  "`directory`"),
        (&[], &[], "[[issuer]]\nname = \"a b\"\ndirectory = \"https://ca/d\"", "`name`"),
        (&[], &[], "[[issuer]]\nname = \"internal\"\n[[issuer]]\nname = \"internal\"", "two issuers are named `internal`"),
        (&[], &[], "[[issuer]]\nname = \"a\"\ndirectory = \"https://ca/d\"\nlifetime = \"9d\"", "`lifetime`"),
        (&[], &[], "[[issuer]]\nname = \"b\"\nkind = \"internal\"\ncontacts = [\"mailto:a@b\"]", "`contacts`"),
        (&[], &[], "issuer = 3",                                "`[[issuer]]`"),
        (&[], &[], "[[issuer]]\nname = \"a\"\ndirectory = \"http://ca/d\"", "https://"),
    ];
    for (flags, variables, file, expected) in table {
        let error = load(flags, variables, file).map(drop).unwrap_err();
        assert!(error.contains(expected), "{file}: {error}");
    }
}

#[test]
fn a_database_url_is_never_part_of_an_error() {
    let error = load(&[("database_url", "postgres://u:secret@h/d"), ("lease", "x")], &[], "").map(drop).unwrap_err();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn issuers_are_tables_or_known_names() {
    let file =
        "issuers = [\"letsencrypt\", \"corp\", \"internal\"]\n[[issuer]]\nname = \"corp\"\ndirectory = \"https://ca.corp.example/acme\"\n";
    let settings = load(&[], &[("CERTWRIGHT_ISSUER_CORP_PROFILE", "shortlived")], file).unwrap();
    let names: Vec<&str> = settings.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
    assert_eq!(names, ["corp", "letsencrypt", "internal"]);
    assert_eq!(settings.issuers[0].profile.as_deref(), Some("shortlived"));
    assert!(settings.suspicious.is_empty());
}

#[test]
fn variables_that_look_like_settings_and_are_none_are_told() {
    let settings = load(&[], &[("CERTWRIGHT_BASE_DOMIAN", "x"), ("CERTWRIGHT_URL", "x"), ("PATH", "x")], "").unwrap();
    assert_eq!(settings.suspicious, ["CERTWRIGHT_BASE_DOMIAN is no setting; did you mean CERTWRIGHT_BASE_DOMAIN?"]);
}
