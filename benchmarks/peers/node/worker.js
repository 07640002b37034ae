// A worker thread of the pool; it has nothing else to do, so it hashes synchronously.
import bcrypt from 'bcrypt';

export const hash = ({ password, cost }) => bcrypt.hashSync(password, cost);
export const verify = ({ password, hashed }) => bcrypt.compareSync(password, hashed);
