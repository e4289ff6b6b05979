// Node's fast-proxy behind Node's own server, with undici towards the service, as
// its documentation advises.
'use strict'

const { readFileSync } = require('fs')
const { pipeline } = require('stream')

const [modules, port, upstream, page, certificate, key] = process.argv.slice(2)
const fastProxy = require(`${modules}/fast-proxy`)
const { proxy } = fastProxy({
  base: `http://127.0.0.1:${upstream}`,
  undici: { connections: 100, pipelining: 10 }
})
const notFound = readFileSync(page)

const rewriteRequestHeaders = (request, headers) => {
  const before = headers['x-forwarded-for']
  const client = request.socket.remoteAddress
  headers['x-forwarded-for'] = before === undefined ? client : `${before}, ${client}`
  headers['x-forwarded-proto'] = certificate ? 'https' : 'http'
  // undici keeps connections itself.
  delete headers.connection
  return headers
}

const rewriteHeaders = headers => {
  delete headers.connection
  delete headers['keep-alive']
  return headers
}

const onResponse = (request, response, stream) => {
  if (response.statusCode === 404) {
    stream.resume()
    response.setHeader('content-type', 'text/html')
    response.setHeader('content-length', notFound.length)
    response.end(notFound)
  } else {
    // As fast-proxy does it by itself: each ends with the other.
    pipeline(stream, response, () => {})
  }
}

const options = { rewriteRequestHeaders, rewriteHeaders, onResponse }
const serve = (request, response) => proxy(request, response, request.url, options)
const server = certificate
  ? require('https').createServer(
    { cert: readFileSync(certificate), key: readFileSync(key), keepAliveTimeout: 75000 }, serve)
  : require('http').createServer({ keepAliveTimeout: 75000 }, serve)
server.listen({ port: Number(port), host: '127.0.0.1', backlog: 1024 })
