"""Settings: four layers, one value, and one line that says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from cyxwiz.config import (
    MASK,
    SECRETS,
    Config,
    ConfigError,
    Loaded,
    check_role,
    default_data_dir,
    load,
    sections,
    settings_of,
)


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def refusal(**given: object) -> str:
    with pytest.raises(ConfigError) as caught:
        load(**{"environ": {}, **given})  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_without_anything_the_defaults_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = load(environ={})
    assert loaded.config == Config()
    assert loaded.origins == {}
    assert loaded.warnings == ()


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    file = write(tmp_path, "[scheduler]\nmax_retries = 4\nmax_node_losses = 4\nretry_backoff_ms = 4\n")
    environ = {"CYXWIZ_SCHEDULER__MAX_NODE_LOSSES": "5", "CYXWIZ_SCHEDULER__RETRY_BACKOFF_MS": "5"}
    loaded = load(file=file, environ=environ, flags=["scheduler.retry_backoff_ms=6"])
    section = loaded.config.scheduler
    assert (section.max_retries, section.max_node_losses, section.retry_backoff_ms) == (4, 5, 6)
    assert section.retry_backoff_max_ms == 60_000
    assert loaded.origins == {
        "scheduler.max_retries": str(file),
        "scheduler.max_node_losses": "environment CYXWIZ_SCHEDULER__MAX_NODE_LOSSES",
        "scheduler.retry_backoff_ms": "flag --set",
    }


def test_a_section_within_a_section_has_every_layer(tmp_path: Path) -> None:
    file = write(tmp_path, '[node]\nname = "rig"\n[node.pricing]\nper_hour = "0.25"\nper_epoch = 0.00001\n')
    environ = {"CYXWIZ_NODE__PRICING__PER_JOB": "1.5"}
    loaded = load(file=file, environ=environ, flags=["node.pricing.currencies=usdc,cyxwiz"])
    pricing = loaded.config.node.pricing
    assert (pricing.per_hour, pricing.per_epoch, pricing.per_job) == ("0.25", "0.00001", "1.5")
    assert pricing.currencies == ("cyxwiz", "usdc")
    assert pricing.minimum_charge is None
    assert loaded.config.node.name == "rig"
    assert loaded.origins["node.pricing.per_job"] == "environment CYXWIZ_NODE__PRICING__PER_JOB"
    assert shown(loaded)["node.pricing.per_hour"] == ("0.25", str(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[node.pricing]\nper_hour = '-1'", "node.pricing.per_hour = '-1': '-1' is out of bounds"),
        ("[node.pricing]\nper_hour = true", "node.pricing.per_hour = True: must be an amount"),
        ("[node.pricing]\ndiscount_1h = 1.5", "node.pricing.discount_1h = 1.5: "),
        ("[node.pricing]\nper_day = '1'", "node.pricing.per_day: unknown setting"),
        ("[node]\npricing = 1", "node.pricing: unknown setting"),
        ("[node.pricing]\ncurrencies = ['eur']", "'eur' is none of cyxwiz, sol, usdc"),
    ],
)
def test_a_price_that_is_none_is_refused_by_its_name(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(file=write(tmp_path, text))


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("server", "max_connections", "true", "True: Input should be a valid integer"),
        ("server", "max_connections", "'5'", "'5': Input should be a valid integer"),
        ("server", "max_connections", "5.0", "5.0: Input should be a valid integer"),
        ("server", "stop_grace_seconds", "'5'", "'5': Input should be a valid number"),
        ("auth", "allow_signup", "1", "1: Input should be a valid boolean"),
        ("node.pricing", "free_tier", "'yes'", "'yes': Input should be a valid boolean"),
        ("node", "data_roots", "[5]", "[5]: Input should be a valid string"),
    ],
)
def test_a_file_says_of_what_type_a_value_is(section: str, key: str, value: str, said: str, tmp_path: Path) -> None:
    file = write(tmp_path, f"[{section}]\n{key} = {value}\n[tls]\ncert_file = '/c'\n")
    flags = ["tls.key_file=/k"]  # what goes together may stand in two places
    assert refusal(file=file, flags=flags) == f"{section}.{key} = {said} (from {file})"


def test_values_of_a_file_may_stand_as_toml_has_them(tmp_path: Path) -> None:
    text = (
        "[server]\nstop_grace_seconds = 5\n[tls]\nca_file = '/a'\n[node]\ndata_roots = ['/d']\ndevices = 'cpu, cuda'\n"
    )
    config = load(file=write(tmp_path, text), environ={"CYXWIZ_SERVER__MAX_CONNECTIONS": "7"}).config
    assert (config.server.stop_grace_seconds, config.server.max_connections) == (5.0, 7)
    assert (config.tls.ca_file, config.node.data_roots, config.node.devices) == (Path("/a"), ("/d",), ("cpu", "cuda"))


def test_what_the_program_itself_sets_wins_over_all() -> None:
    loaded = load(environ={}, flags=["server.rest_address=127.0.0.1:1"], overrides={"server.rest_address": "[::1]:0"})
    assert loaded.config.server.rest_address == "[::1]:0"
    assert loaded.origins["server.rest_address"] == "flag"


def test_the_file_of_the_working_directory_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[logging]\nlevel = 'debug'\n")
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).config.logging.level == "debug"


def test_variables_that_are_no_settings_are_left_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"CYXWIZ_DATA_DIR": "/srv/cyxwiz", "PATH": "/bin", "OTHER__KEY": "1"}
    assert load(environ=environ).origins == {}
    assert default_data_dir(environ) == Path("/srv/cyxwiz")
    assert default_data_dir({}) == Path.home() / ".local" / "share" / "cyxwiz"


@pytest.mark.parametrize("flag", ["server.grpc=1", "nothing.key=1", "server=1", ".=1"])
def test_an_unknown_key_is_refused_by_name(flag: str) -> None:
    key = flag.partition("=")[0]
    assert refusal(flags=[flag]).startswith(f"{key}: unknown setting (from flag --set)")


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("server.rest_adress", "did you mean rest_address?"),
        ("sever.rest_address", "did you mean server.rest_address?"),
        ("node.labels", "`cyxwiz config show` lists them all"),
    ],
)
def test_an_unknown_key_that_is_nearly_one_says_which(key: str, said: str) -> None:
    assert refusal(flags=[f"{key}=1"]) == f"{key}: unknown setting (from flag --set); {said}"


def test_an_unknown_key_of_each_layer_says_where_it_came_from(tmp_path: Path) -> None:
    file = write(tmp_path, "[node]\ncolour = 'red'\n")
    assert refusal(file=file) == f"node.colour: unknown setting (from {file}); `cyxwiz config show` lists them all"
    assert "environment CYXWIZ_NODE__COLOUR" in refusal(environ={"CYXWIZ_NODE__COLOUR": "red"})


def test_a_key_outside_any_section_is_refused(tmp_path: Path) -> None:
    assert "settings stand in sections" in refusal(file=write(tmp_path, "level = 'debug'\n"))


@pytest.mark.parametrize(
    ("flag", "bound"),
    [
        ("server.max_connections=0", "greater than or equal to 1"),
        ("scheduler.node_heartbeat_timeout_ms=499", "greater than or equal to 500"),
        ("scheduler.weight_uptime=1.1", "less than or equal to 1"),
        ("scheduler.weight_uptime=nan", "finite"),
        ("database.event_retention_hours=0", "greater than 0"),
        ("auth.mode=closed", "'required' or 'open'"),
        ("node.keep_results=1w", "pattern"),
        ("node.max_concurrent_jobs=many", "valid integer"),
        ("tls.allow_plaintext=perhaps", "valid boolean"),
        ("server.grpc_address=127.0.0.1", "host:port"),
        ("server.grpc_address=:50051", "host:port"),
        ("server.rest_address=127.0.0.1:70000", "host:port"),
        ("ledger.backend=bank", "'credits'"),
        ("database.event_retention_hours=1e8", "less than or equal to"),
        ("auth.refresh_token_seconds=1000000000000", "less than or equal to"),
        ("scheduler.max_pending_per_user=10001", "less than or equal to 10000"),
        ("server.max_connections=9999999999", "less than or equal to"),
        ("server.max_request_bytes=99999999999999", "less than or equal to"),
        ("server.public_url=foo", "https://"),
        ("node.advertise_address=myhost", "host:port"),
        ("node.advertise_address=myhost:\N{SUPERSCRIPT TWO}", "host:port"),
        ("node.central=garbage", "host:port"),
        ("node.keep_results=99999999999d", "at most 3660d"),
        ("node.devices=bogus", "is no device"),
        ("blobs.url=s3://bucket", "file:///path"),
        ("database.url=mysql://x", "sqlite:///path or postgresql://"),
        ("database.url=sqlite://", "names no file"),
        ("database.url=sqlite://x", "names no file"),
        ("database.url=sqlite:///:memory:", "names no file"),
    ],
)
def test_a_value_out_of_bounds_names_key_value_bound_and_origin(flag: str, bound: str) -> None:
    key, _, value = flag.partition("=")
    message = refusal(flags=[flag])
    assert message.startswith(f"{key} = {value!r}: ")
    assert bound in message
    assert message.endswith("(from flag --set)")


@pytest.mark.parametrize(
    ("role", "flags", "said"),
    [
        ("central", ["server.grpc_address=0.0.0.0:50051"], "beyond loopback it must speak TLS"),
        ("central", ["server.node_grpc_address=10.0.0.1:1"], "beyond loopback it must speak TLS"),
        ("central", ["server.rest_address=[::]:1", "auth.mode=open"], "for loopback addresses only"),
        ("central", ["tls.require_client_cert=true"], "tls.ca_file must name the authority"),
        ("node", ["node.sandbox=none"], "--allow-unsafe"),
        ("node", ["node.gang_address=10.0.0.1", "node.gangs=on"], "node.gang_network"),
        ("node", ["node.gang_address=10.0.0.1"], "node.gang_network"),
        ("both", ["tls.cert_file=/nonexistent/crt", "tls.key_file=/nonexistent/key"], "No such file or directory"),
    ],
)
def test_what_a_start_refuses_for_its_role_names_all_of_it_too(role: str, flags: list[str], said: str) -> None:
    loaded = load(environ={}, flags=flags)
    key, _, value = flags[0].partition("=")
    for each in {role, "both"}:
        with pytest.raises(ConfigError) as caught:
            check_role(loaded, each, Path("/data"))
        assert str(caught.value).startswith(f"{key} = {True if value == 'true' else value!r}: ")
        assert said in str(caught.value)
        assert str(caught.value).endswith("(from flag --set)")
    for other in {"central", "node"} - {role} if role != "both" else ():
        check_role(loaded, other, Path("/data"))


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["server.grpc_address=0.0.0.0:1", "tls.allow_plaintext=true"],
        ["node.gang_address=10.0.0.1", "node.gang_network=lan", "node.gangs=on"],
        ["node.gang_address=10.0.0.1", "node.gangs=off"],
        ["node.gang_address=10.0.0.1", "node.central=central.example:50051"],
        ["node.sandbox=none"],
    ],
)
def test_what_is_meant_is_no_mistake(flags: list[str]) -> None:
    check_role(load(environ={}, flags=flags), "both", Path("/data"), allow_unsafe=True)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("payer_keypair_path", "/nonexistent/id.json", "No such file or directory"),
        ("solana_rpc_url", "devnet", "must be the http or https address of a Solana cluster"),
        ("token_mint", "rubbish", "must be an address, 32 bytes in base58"),
        ("program_id", "So111111111111111111111111111111111111111123", "must be an address, 32 bytes in base58"),
        ("staking_program_id", "", "must be an address, 32 bytes in base58"),
        ("arbiter", "0OIl", "must be an address, 32 bytes in base58"),
    ],
)
def test_what_must_be_known_of_a_cluster_is_looked_at_with_the_settings(key: str, value: str, said: str) -> None:
    mint = "So11111111111111111111111111111111111111112"
    good = ["blockchain.payer_keypair_path=/dev/null", f"blockchain.token_mint={mint}"]
    local, wrong = [*good, "blockchain.network=localnet"], f"blockchain.{key}={value}"
    for flags in (local, [*good, f"blockchain.program_id={mint}"]):
        check_role(load(environ={}, flags=["ledger.backend=solana", *flags]), "central", Path("/data"))
        refused = load(environ={}, flags=["ledger.backend=solana", *flags, wrong])
        with pytest.raises(ConfigError) as caught:
            check_role(refused, "central", Path("/data"))
        assert str(caught.value) == f"blockchain.{key} = {value!r}: {said} (from flag --set)"
        check_role(refused, "node", Path("/data"))
        check_role(load(environ={}, flags=[*flags, wrong]), "central", Path("/data"))  # another ledger
    with pytest.raises(ConfigError, match=r"blockchain.program_id = None: must be an address.*from default"):
        check_role(load(environ={}, flags=["ledger.backend=solana", *good]), "central", Path("/data"))


def test_a_minimum_that_nobody_could_stake_is_refused() -> None:
    flags = ["ledger.backend=none", "blockchain.minimum_stake=1"]
    with pytest.raises(ConfigError, match=r"blockchain.minimum_stake = '1': with .* nothing can be staked"):
        check_role(load(environ={}, flags=flags), "central", Path("/data"))
    check_role(load(environ={}, flags=flags), "node", Path("/data"))
    check_role(load(environ={}, flags=["blockchain.minimum_stake=1"]), "both", Path("/data"))


def test_what_is_no_certificate_or_not_with_its_key_is_named(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca")
    for name in ("one", "two"):
        made = authority.issue_cert("localhost")
        made.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        for part in made.cert_chain_pems:
            part.write_to_path(tmp_path / f"{name}.crt", append=True)
    (tmp_path / "text").write_text("no PEM")

    def check(**files: str) -> None:
        flags = [f"tls.{key}={tmp_path / name}" for key, name in files.items()]
        check_role(load(environ={}, flags=flags), "both", Path("/data"))

    check(cert_file="one.crt", key_file="one.key", ca_file="ca")
    for cert, key in (("one.crt", "two.key"), ("one.key", "one.crt"), ("text", "one.key"), ("one.crt", "text")):
        with pytest.raises(ConfigError, match=f"^tls.cert_file = .*{cert}': it and tls.key_file must be .*flag --set"):
            check(cert_file=cert, key_file=key, ca_file="ca")
    with pytest.raises(ConfigError, match=r"^tls.ca_file = .*: must hold certificates in PEM \(from flag --set\)$"):
        check(ca_file="one.key")


def test_a_node_beats_as_often_as_documented_by_default() -> None:
    assert shown(load(environ={}))["node.heartbeat_interval_ms"] == (10000, "default")


def test_a_scheduler_without_any_weight_is_refused() -> None:
    names = ("reputation", "availability", "capability", "uptime", "data")
    assert "at least one weight" in refusal(flags=[f"scheduler.weight_{name}=0" for name in names])


def test_a_certificate_without_its_key_is_refused() -> None:
    assert "set both or none (tls.key_file from flag --set)" in refusal(flags=["tls.key_file=/x"])


def test_what_does_not_go_together_says_where_it_came_from() -> None:
    said = refusal(flags=["database.min_connections=21"], environ={"CYXWIZ_DATABASE__EVENT_RETENTION_HOURS": "2"})
    assert said.endswith("21 is above max_connections = 20 (database.min_connections from flag --set)")
    weights = [name for name in settings_of(sections()["scheduler"]) if name.startswith("weight_")]
    said = refusal(flags=[f"scheduler.{name}=0" for name in weights])
    assert "above 0 (" in said
    assert all(f"scheduler.{name} from flag --set" in said for name in weights)


@pytest.mark.parametrize("key", sorted(key for key in SECRETS if key.startswith("auth.")))
def test_a_secret_that_can_be_guessed_is_refused(key: str, tmp_path: Path) -> None:
    assert "at least 16 characters" in refusal(flags=[f"{key}=short"])
    (tmp_path / "secret").write_text("short\n")
    assert "16 at least" in refusal(flags=[f"{key}_file={tmp_path / 'secret'}"])


@pytest.mark.parametrize(
    ("url", "there"),
    [
        ("postgresql://ann:hunter2@db/x", "postgresql://ann:********@db/x"),
        ("postgresql://ann:hunter2@/b:@db/x", "postgresql://ann:********@db/x"),
        ("postgresql://db/x?user=ann&password=hunter2&b=c", "postgresql://db/x?user=ann&password=********&b=c"),
        ("postgresql://db/x?api-key=hunter2&b=c", "postgresql://db/x?api-key=********&b=c"),
    ],
)
@pytest.mark.parametrize("key", ["database.url", "redis.url", "blockchain.solana_rpc_url"])
def test_a_password_in_a_url_is_never_shown(key: str, url: str, there: str, tmp_path: Path) -> None:
    loaded = load(environ={}, flags=[f"{key}={url}"])
    assert shown(loaded)[key][0] == there
    (warning,) = loaded.warnings
    assert "hunter2" not in warning
    assert f"CYXWIZ_{key.upper().replace('.', '__')}" in warning
    assert load(environ={}, flags=["database.url=postgresql://ann@db/x"]).warnings == ()
    unread = refusal(flags=["database.url=postgres:hunter2@db/x"])
    assert unread.startswith(f"database.url = {MASK}: must be sqlite")
    wrong = refusal(file=write(tmp_path, f'[server]\ngrpc_address = "{url}"\n'))
    assert "hunter2" not in wrong


@pytest.mark.parametrize("name", ["api-key", "apiKey", "access_token", "token", "key"])
def test_nor_is_the_access_key_of_a_cluster(name: str) -> None:
    loaded = load(environ={}, flags=[f"blockchain.solana_rpc_url=https://rpc.example/?{name}=hunter2&x=1"])
    assert shown(loaded)["blockchain.solana_rpc_url"][0] == f"https://rpc.example/?{name}=********&x=1"
    (warning,) = loaded.warnings
    assert "CYXWIZ_BLOCKCHAIN__SOLANA_RPC_URL" in warning


def test_a_flag_without_a_value_is_refused() -> None:
    assert refusal(flags=["server.grpc_address"]) == "--set server.grpc_address: must be section.key=value"


def test_a_file_that_is_no_toml_or_not_there_is_refused(tmp_path: Path) -> None:
    broken = write(tmp_path, "[server\n")
    assert refusal(file=broken).startswith(f"{broken}: ")
    assert refusal(file=tmp_path / "none.toml").endswith("no such configuration file")


def test_lists_may_be_written_with_commas_or_as_json() -> None:
    assert load(environ={}, flags=["node.devices=cpu, cuda:0"]).config.node.devices == ("cpu", "cuda:0")
    assert load(environ={}, flags=['node.data_roots=["/a b","/c"]']).config.node.data_roots == ("/a b", "/c")
    assert load(environ={}, flags=["node.data_roots="]).config.node.data_roots == ()


def test_the_settings_are_frozen() -> None:
    config = load(environ={}).config
    with pytest.raises(ValueError, match="frozen"):
        config.server.max_connections = 1


def shown(loaded: Loaded) -> dict[str, tuple[Any, str]]:
    return {key: (value, origin) for key, value, origin in loaded.rows()}


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_is_never_shown(key: str) -> None:
    loaded = load(environ={}, flags=[f"{key}=hunter2-hunter2-hunter2-hunter2-32"])
    assert shown(loaded)[key] == (MASK, "flag --set")
    assert "hunter2" not in "".join(loaded.warnings)
    assert loaded.warnings == (f"--set {key}: other users of this machine can read it; use {key}_file",)
    assert shown(load(environ={}))[key] == (None, "default")


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_of_a_secret_and_its_file_the_later_layer_wins(key: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the file " * 3)
    section, _, name = key.partition(".")
    inline, by_file = (f"CYXWIZ_{key.upper().replace('.', '__')}{end}" for end in ("", "_FILE"))

    def found(text: str, environ: dict[str, str], *flags: str) -> str:
        loaded = load(file=write(tmp_path, f"[{section}]\n{text}\n"), environ=environ, flags=flags)
        return str(getattr(getattr(loaded.config, section), name))

    named = f'{name}_file = "{tmp_path / "secret"}"'
    assert found(named, {inline: "of the environment"}) == "of the environment"
    assert found(named, {inline: "of the environment"}, f"{key}=of the flag, at last") == "of the flag, at last"
    assert found("", {by_file: str(tmp_path / "secret")}, f"{key}=of the flag, at last") == "of the flag, at last"
    for text, environ in (
        (f"{name} = 'of the settings file'\n{named}", {}),
        (f"{name} = 'of the settings file'", {by_file: str(tmp_path / "secret")}),
        ("", {inline: "of the environment", by_file: str(tmp_path / "secret")}),
    ):
        assert found(text, environ).startswith("of the file")


@pytest.mark.parametrize("key", sorted(SECRETS))
def test_a_secret_may_come_from_a_file(key: str, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("  from-the-file, which is long enough\n")
    loaded = load(environ={}, flags=[f"{key}_file={path}"])
    section, _, name = key.partition(".")
    assert getattr(getattr(loaded.config, section), name) == "from-the-file, which is long enough"
    assert shown(loaded)[key] == (MASK, str(path))
    assert loaded.warnings == ()
    missing = refusal(flags=[f"{key}_file={tmp_path / 'none'}"])
    assert missing == f"{key}_file = '{tmp_path / 'none'}': No such file or directory (from flag --set)"


def test_a_secret_of_the_wrong_type_is_not_repeated(tmp_path: Path) -> None:
    message = refusal(file=write(tmp_path, "[auth]\njwt_secret = 12345678\n"))
    assert "12345678" not in message
    assert message.startswith(f"auth.jwt_secret = {MASK}: ")


def test_every_setting_is_listed_with_its_origin(tmp_path: Path) -> None:
    rows = shown(load(environ={"CYXWIZ_METRICS__ENABLED": "no"}, flags=["node.name=a b"]))
    assert rows["metrics.enabled"] == (False, "environment CYXWIZ_METRICS__ENABLED")
    assert rows["node.name"] == ("a b", "flag --set")
    assert rows["node.devices"] == (["all"], "default")
    assert len(rows) == sum(len(settings_of(section)) for section in sections().values())


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5m", 300), ("24h", 86400), ("2d", 172800)])
def test_spans_of_time(text: str, seconds: float) -> None:
    assert load(environ={}, flags=[f"node.keep_results={text}"]).config.node.keep_results_seconds == seconds
