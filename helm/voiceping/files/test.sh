# Run by `helm test` in a small container. GATEWAY is the address of the gateways' Service.
ready=
for try in 1 2 3 4 5 6 7 8 9 10; do
    ready=$(wget -q --no-check-certificate -O - "$GATEWAY/ready" 2>&1) && break
    echo "not ready yet: $ready"
    sleep 3
done
test "$ready" = ready
echo "gateways are ready: a media node answers"

wget -q --no-check-certificate -O - "$GATEWAY/" | grep -qi '<html'
echo "the page is there"

answer=$(wget -q --no-check-certificate -S -O /dev/null \
    --header 'Connection: Upgrade' --header 'Upgrade: websocket' \
    --header 'Sec-WebSocket-Version: 13' --header 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==' \
    "$GATEWAY/ws" 2>&1 || true)
echo "$answer" | grep -q 401
echo "a WebSocket without a token is refused"
