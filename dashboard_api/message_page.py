"""The page that says why there is no other, for addresses that belong to no room."""

from collections.abc import Callable

from litestar import Response

from dashboard_api.rendering import Renderer


def message_page() -> Callable[[str, str, int], Response[bytes]]:
    """A function from a title, a sentence and a status to such a page."""
    renderer = Renderer()

    def page(title: str, detail: str, status: int) -> Response[bytes]:
        body = renderer.render("message.html", {"here": "", "title": title, "detail": detail})
        return renderer.page(body, status=status)

    return page
