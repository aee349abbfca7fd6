"""Nodes and the tokens they join with, by REST."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api, Ban, Complaint, NodeList, NodeToken, NodeTokenList, Span
from cyxwiz.services.money_api import Amount
from cyxwiz.services.stake_api import Judgment, WithdrawStake
from cyxwiz.transports.rest.request import Operation


def operations(api: Api) -> list[Operation]:
    path = "/api/nodes/{id}"
    return [
        Operation("GET", "/api/nodes", "All nodes", "Nodes", api.list_nodes, query=NodeList),
        Operation("GET", path, "A node", "Node", api.get_node),
        Operation(
            "GET",
            f"{path}/metrics",
            "Samples of its load",
            "NodeMetrics",
            api.get_node_metrics,
            query=Span,
            large=True,
        ),
        Operation(
            "POST",
            f"{path}/drain",
            "Give it no new jobs; what runs moves on with a checkpoint",
            "Node",
            api.drain_node,
            refuses=(Code.STALE,),
        ),
        Operation("POST", f"{path}/resume", "Give it jobs again", "Node", api.resume_node, refuses=(Code.STALE,)),
        Operation(
            "POST",
            f"{path}/ban",
            "Shut it out, for a time or for good; what it runs goes elsewhere",
            "Node",
            api.ban_node,
            body=Ban,
            body_optional=True,
            refuses=(Code.STALE,),
        ),
        Operation(
            "POST", f"{path}/unban", "End its ban: it is on probation", "Node", api.unban_node, refuses=(Code.STALE,)
        ),
        Operation(
            "POST",
            f"{path}/complaints",
            "Complain about a node that had your job, once a job",
            "Node",
            api.complain_about_node,
            body=Complaint,
            refuses=(Code.EXISTS, Code.STALE),
        ),
        Operation("GET", f"{path}/stake", "Its stake", "Stake", api.get_stake, refuses=(Code.UNSUPPORTED,)),
        Operation(
            "POST",
            f"{path}/stake",
            "Add to its stake, out of its owner's account",
            "Stake",
            api.add_stake,
            body=Amount,
            refuses=(Code.FUNDS, Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            f"{path}/stake/withdraw",
            "Begin the cool-down of its stake, or take out what has cooled down",
            "Stake",
            api.withdraw_stake,
            body=WithdrawStake,
            body_optional=True,
            refuses=(Code.FUNDS, Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            f"{path}/stake/rewards",
            "Claim the rewards that are due to its stake",
            "Stake",
            api.claim_rewards,
            refuses=(Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            "/api/stakes/rewards",
            "Give of one's balance for the rewards of stakes",
            "Funded",
            api.fund_rewards,
            body=Amount,
            refuses=(Code.FUNDS, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            f"{path}/stake/appeal",
            "Appeal against the slash of its stake",
            "Stake",
            api.appeal_slash,
            refuses=(Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation(
            "POST",
            f"{path}/stake/judgment",
            "Decide the appeal: whether the slash stands (admin)",
            "Stake",
            api.judge_slash,
            body=Judgment,
            refuses=(Code.CONFLICT, Code.UNSUPPORTED),
        ),
        Operation("GET", "/api/node-tokens", "Join tokens", "JoinTokens", api.list_node_tokens, query=NodeTokenList),
        Operation(
            "POST",
            "/api/node-tokens",
            "Make a token that nodes join with",
            "JoinToken",
            api.create_node_token,
            body=NodeToken,
            body_optional=True,
            status=201,
        ),
        Operation("DELETE", "/api/node-tokens/{id}", "Revoke a join token", "JoinToken", api.revoke_node_token),
    ]
