/**
 * Telling systemd how the service is: a datagram to the socket that it names in NOTIFY_SOCKET. Where the
 * runtime was started without Unix datagrams (deno.json asks for them), `systemd-notify` sends it for us;
 * systemd then believes it only with NotifyAccess=all.
 */

/** Sends one state; failures are nobody's business. @param socket the value of NOTIFY_SOCKET */
export async function notifySystemd(socket: string, state: string): Promise<void> {
  try {
    if (typeof Deno.listenDatagram === "function") await sendDatagram(socket, state);
    else await new Deno.Command("systemd-notify", { args: state.split("\n") }).output();
  } catch {
    // The service manager is gone, or never was: the service runs as well without it.
  }
}

async function sendDatagram(socket: string, state: string): Promise<void> {
  // An empty path binds to a name that the system invents, outside the file system.
  const sender = Deno.listenDatagram({ transport: "unixpacket", path: "" });
  try {
    // An "@" stands for the zero byte that begins the name of such a socket.
    const path = socket.replace(/^@/, "\0");
    await sender.send(new TextEncoder().encode(state), { transport: "unixpacket", path });
  } finally {
    sender.close();
  }
}
