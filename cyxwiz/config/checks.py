"""What settings must be together, for a role: a start refuses what `cyxwiz config check` refuses."""

from __future__ import annotations

import re
from pathlib import Path

from cyxwiz.config.layers import Loaded
from cyxwiz.config.sections import NodeSection
from cyxwiz.domain.addresses import is_loopback
from cyxwiz.domain.base58 import KEY_BYTES, MAX_KEY_TEXT, decode
from cyxwiz.domain.money import parse_cyxwiz


def check_role(loaded: Loaded, role: str, data_dir: Path, *, allow_unsafe: bool = False) -> None:
    """`role` is central, node or both; `allow_unsafe` is the flag of `run`. Reads no files but those of TLS and keys.

    Raises:
        ConfigError: one line naming key, value, bound and origin.
    """
    _check_files(loaded)
    if role != "node":
        _check_doors(loaded)
        _check_stake(loaded)
        _check_cluster(loaded)
    if role != "central":
        _check_node(loaded, data_dir.resolve(), allow_unsafe)


def wants_gangs(node: NodeSection) -> bool:
    return node.gangs == "on" or (node.gangs == "auto" and is_loopback(node.central.rpartition(":")[0]))


def _check_files(loaded: Loaded) -> None:
    for name in ("cert_file", "key_file", "ca_file"):
        path = getattr(loaded.config.tls, name)
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as error:
            raise loaded.refusal(f"tls.{name}", error.strerror or "can't be read") from None
    _check_pem(loaded)


def _check_pem(loaded: Loaded) -> None:
    """What the doors would only say as that they can't listen."""
    tls = loaded.config.tls
    if tls.cert_file is None and tls.ca_file is None:
        return
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")  # none is asked for at a terminal
    except (ssl.SSLError, ValueError):
        why = (
            "it and tls.key_file must be a chain of certificates and the private key of the first, in PEM, unencrypted"
        )
        raise loaded.refusal("tls.cert_file", why) from None
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
    except (ssl.SSLError, ValueError):
        raise loaded.refusal("tls.ca_file", "must hold certificates in PEM") from None


def _check_doors(loaded: Loaded) -> None:
    """No doors beyond loopback without TLS, and none in open mode; certificates of clients need their authority."""
    config = loaded.config
    if config.tls.require_client_cert and config.tls.ca_file is None:
        raise loaded.refusal("tls.require_client_cert", "tls.ca_file must name the authority of clients' certificates")
    for name in ("grpc_address", "rest_address", "node_grpc_address"):
        address = getattr(config.server, name)
        if address is None or is_loopback(address.rpartition(":")[0]):
            continue
        if config.auth.mode == "open":
            raise loaded.refusal(f"server.{name}", 'auth.mode = "open" is for loopback addresses only')
        if config.tls.cert_file is None and not config.tls.allow_plaintext:
            raise loaded.refusal(
                f"server.{name}",
                "beyond loopback it must speak TLS: set tls.cert_file and tls.key_file (`cyxwiz certs init` makes "
                "them), or tls.allow_plaintext = true behind a proxy of your own",
            )


def _check_stake(loaded: Loaded) -> None:
    if loaded.config.ledger.backend == "none" and parse_cyxwiz(loaded.config.blockchain.minimum_stake):
        why = 'with ledger.backend = "none" nothing can be staked; set it to "0", or choose a ledger'
        raise loaded.refusal("blockchain.minimum_stake", why)


def _check_cluster(loaded: Loaded) -> None:
    """What must be stated of a cluster before it is asked for anything."""
    chain = loaded.config.blockchain
    if loaded.config.ledger.backend != "solana":
        return
    try:
        chain.payer_keypair_path.expanduser().open("rb").close()
    except OSError as error:
        raise loaded.refusal("blockchain.payer_keypair_path", error.strerror or "can't be read") from None
    if not re.match("https?://[^/]", chain.solana_rpc_url):
        raise loaded.refusal("blockchain.solana_rpc_url", "must be the http or https address of a Solana cluster")
    needed = {"token_mint"} if chain.network == "localnet" else {"token_mint", "program_id"}
    for name in ("token_mint", "program_id", "staking_program_id", "arbiter"):
        address = getattr(chain, name)
        if name in needed if address is None else not _is_address(address):
            raise loaded.refusal(f"blockchain.{name}", "must be an address, 32 bytes in base58")


def _is_address(text: str) -> bool:
    try:
        return len(text) <= MAX_KEY_TEXT and len(decode(text)) == KEY_BYTES
    except ValueError:
        return False


def _check_node(loaded: Loaded, data_dir: Path, allow_unsafe: bool) -> None:
    node = loaded.config.node
    for root in (Path(each).resolve() for each in node.data_roots):
        if data_dir.is_relative_to(root) or root.is_relative_to(data_dir):  # jobs would see its keys
            why = f"{root} and the data directory {data_dir} must not lie in each other"
            raise loaded.refusal("node.data_roots", why)
    if node.sandbox == "none" and not allow_unsafe:
        raise loaded.refusal("node.sandbox", "it runs jobs unconfined: start with --allow-unsafe if that is meant")
    # What members of a gang say to each other is neither encrypted nor authenticated.
    if wants_gangs(node) and not is_loopback(node.gang_address) and not node.gang_network:
        raise loaded.refusal(
            "node.gang_address",
            "members of a gang speak without encryption; name the private network of that address with "
            'node.gang_network, or set node.gangs = "off"',
        )
