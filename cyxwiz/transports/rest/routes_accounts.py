"""Log-in, users, API keys and tickets by REST."""

from __future__ import annotations

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import (
    Api,
    Credentials,
    KeyList,
    LogoutTokens,
    NewBudget,
    NewKey,
    NewUser,
    RefreshToken,
    UserList,
)
from cyxwiz.transports.rest.request import Access, Operation


def operations(api: Api) -> list[Operation]:
    return [
        Operation(
            "POST",
            "/api/auth/login",
            "Tokens for a name and a password",
            "Tokens",
            api.login,
            body=Credentials,
            access=Access.LOGIN,
        ),
        Operation(
            "POST",
            "/api/auth/refresh",
            "New tokens for a refresh token, which is void afterwards",
            "Tokens",
            api.refresh,
            body=RefreshToken,
            access=Access.REFRESH,
        ),
        Operation(
            "POST",
            "/api/auth/logout",
            "Void the tokens; API keys live on",
            "LoggedOut",
            api.logout,
            body=LogoutTokens,
            body_optional=True,
        ),
        Operation("GET", "/api/auth/me", "Who you are", "User", api.who_am_i),
        Operation("GET", "/api/users", "All users (admin)", "Users", api.list_users, query=UserList),
        Operation(
            "POST",
            "/api/users",
            "Make a user (admin), or sign up where that is open",
            "User",
            api.create_user,
            body=NewUser,
            status=201,
            access=Access.SIGN_UP,
            refuses=(Code.EXISTS,),
        ),
        Operation("POST", "/api/users/{id}/disable", "Disable a user, by id or name (admin)", "User", api.disable_user),
        Operation(
            "POST",
            "/api/users/{id}/budget",
            "Set what a user's jobs may cost a month, by id or name; none: no limit (admin)",
            "Budget",
            api.set_user_budget,
            body=NewBudget,
        ),
        Operation("GET", "/api/users/{id}/budget", "A user's budget, and what is left", "Budget", api.get_user_budget),
        Operation("GET", "/api/keys", "Your API keys", "Keys", api.list_keys, query=KeyList),
        Operation(
            "POST",
            "/api/keys",
            "Make an API key, shown this once",
            "NewKeyMade",
            api.create_key,
            body=NewKey,
            body_optional=True,
            status=201,
        ),
        Operation("DELETE", "/api/keys/{id}", "Revoke an API key", "Key", api.revoke_key),
        Operation(
            "POST",
            "/api/tickets",
            "A single-use ticket of 60 seconds, for a browser's event stream or WebSocket",
            "Ticket",
            api.create_ticket,
            status=201,
        ),
    ]
