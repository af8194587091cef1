// The console works without this script. It shows times in the reader's zone, with UTC one press away, and adds what is
// new while a page is open.
"use strict";

(() => {
  const kept = "scimgate-times";
  let zone = "local";
  try { zone = localStorage.getItem(kept) === "utc" ? "utc" : "local"; } catch { /* storage may be forbidden */ }

  const pad = (n, width = 2) => String(n).padStart(width, "0");

  // text is a moment in one of the two zones.
  const text = (date, form, utc) => {
    const get = (part) => date[(utc ? "getUTC" : "get") + part]();
    const time = pad(get("Hours")) + ":" + pad(get("Minutes"));
    if (form === "clock") {
      return time;
    }
    return get("FullYear") + "-" + pad(get("Month") + 1) + "-" + pad(get("Date")) + " " + time + ":" + pad(get("Seconds")) + "." + pad(get("Milliseconds"), 3);
  };

  // localise shows the times within a part of the page.
  const localise = (root) => {
    for (const element of root.querySelectorAll("time[datetime]")) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) {
        continue;
      }
      const utc = zone === "utc";
      const form = element.dataset.form;
      element.textContent = text(date, form, utc) + (utc && form !== "clock" ? " UTC" : "");
      element.title = utc ? text(date, "full", false) + " here" : text(date, "full", true) + " UTC";
    }
  };

  // atUTC reports whether the reader's zone is UTC all year.
  const atUTC = () => [0, 6].every((month) => new Date(2026, month, 1).getTimezoneOffset() === 0) && zoneName().includes("UTC");

  const zoneName = () => {
    try { return Intl.DateTimeFormat().resolvedOptions().timeZone || "your zone"; } catch { return "your zone"; }
  };

  const showZone = () => {
    const place = document.getElementById("zone");
    if (!place || atUTC()) {
      return;
    }
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = zone === "utc" ? "Show local times" : "Show UTC";
    button.addEventListener("click", () => {
      zone = zone === "utc" ? "local" : "utc";
      try { localStorage.setItem(kept, zone); } catch { /* it holds for this page */ }
      localise(document);
      showZone();
      place.querySelector("button").focus();
    });
    place.replaceChildren("Times are in " + (zone === "utc" ? "UTC" : zoneName()) + ". ", button);
  };

  const say = (words) => {
    const place = document.getElementById("live");
    if (place && place.textContent !== words) {
      place.textContent = words;
      place.classList.toggle("off", words.startsWith("Not live") || words.startsWith("You are"));
    }
  };

  // busy reports whether a change would disturb who is reading: the focus, a selection or an open list is within.
  const busy = (element) => {
    const selection = getSelection();
    return element.contains(document.activeElement) || element.querySelector("details[open]") ||
      (selection && !selection.isCollapsed && element.contains(selection.anchorNode));
  };

  // parse makes elements of what the server wrote; a parsed document runs no scripts.
  const parse = (html, within) => {
    const parsed = new DOMParser().parseFromString(within ? "<table><tbody>" + html + "</tbody></table>" : html, "text/html");
    const part = within ? parsed.querySelector("tbody") : parsed.body;
    localise(part);
    return [...part.childNodes].map((node) => document.importNode(node, true));
  };

  // follow keeps a part of the page up to date while the page is seen. A hidden page lets its stream go: browsers open
  // only six connections to one host.
  const follow = (element) => {
    const address = new URL(element.dataset.live, location.href);
    let source = null;
    let added = 0;
    let over = false;

    const news = () => say(added ? "Live: " + added + " new." : "Live.");

    const add = (event) => {
      const rows = parse(event.data, true);
      for (const row of rows) {
        if (row.classList) {
          row.classList.add("new");
        }
      }
      element.prepend(...rows);
      address.searchParams.set("after", event.lastEventId);
      added++;
      while (element.rows.length > Number(element.dataset.most)) {
        element.lastElementChild.remove();
      }
      news();
    };

    const replace = (event) => {
      if (busy(element)) {
        say("Live: waiting while you read.");
        return;
      }
      element.replaceChildren(...parse(event.data, false));
      news();
    };

    const stop = () => {
      if (source) {
        source.close();
        source = null;
      }
    };

    const start = () => {
      if (source || over || document.hidden) {
        return;
      }
      source = new EventSource(address);
      source.addEventListener("open", news);
      source.addEventListener("add", add);
      source.addEventListener("replace", replace);
      const end = (words) => () => {
        over = true;
        stop();
        say(words);
      };
      source.addEventListener("end", end("You are no longer signed in: load the page again."));
      source.addEventListener("behind", end("Not live: much has happened meanwhile. Load the page again."));
      source.addEventListener("error", () => {
        const closed = source && source.readyState === EventSource.CLOSED;
        say(closed ? "Not live: load the page again." : "Not live: the gateway does not answer. It is tried again.");
      });
    };

    document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
    addEventListener("pagehide", stop);
    addEventListener("pageshow", start);
    start();
  };

  localise(document);
  showZone();
  for (const element of document.querySelectorAll("[data-live]")) {
    follow(element);
  }
})();
